"""An agent that says what a text is about: naive Bayes, learned from forty shipped sentences.

No language model: words are counted per label in `data/training.tsv`, once, when it starts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import msgspec

from dragoman_agents import Agent

agent = Agent("classifier", description="Says what a text is about")

COMMON = {"from", "that", "this", "with", "they", "them", "when", "then", "were", "have", "until"}
TRAINING = Path(__file__).parent / "data" / "training.tsv"


class Verdict(msgspec.Struct):
    """The likeliest label, and the words that spoke for it.

    `confidence` is 0 to 1; naive Bayes, counting each word as independent, is too sure of long
    texts.
    """

    label: str
    confidence: float
    because_of: list[str]


def learn(path: Path) -> dict[str, Counter[str]]:
    """Count the words of each label; lines are `label<TAB>text`."""
    counts: dict[str, Counter[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            label, text = line.split("\t")
            counts.setdefault(label, Counter()).update(words(text))
    return counts


def words(text: str) -> list[str]:
    """The words that carry meaning, roughly: four letters or more, without a plural s."""
    found = re.findall(r"[a-z]{4,}", text.lower())
    return [word.removesuffix("s") for word in found if word not in COMMON]


COUNTS = learn(TRAINING)
VOCABULARY = set().union(*COUNTS.values())


@agent.skill(tags=["text"])
def classify(text: str) -> Verdict:
    """Says whether a text is about trade, cooking, science or sport."""
    known = [word for word in words(text) if word in VOCABULARY]
    scores = {label: sum(_weight(word, label) for word in known) for label in COUNTS}
    best = max(scores, key=lambda label: scores[label])
    certainty = 1 / sum(math.exp(score - scores[best]) for score in scores.values())
    telling = sorted(set(known), key=lambda word: (-_evidence(word, best), word))
    return Verdict(label=best, confidence=round(certainty, 3), because_of=telling[:5])


def _weight(word: str, label: str) -> float:
    """The logarithm of the word's probability under a label, with one added to every count."""
    counts = COUNTS[label]
    return math.log((counts[word] + 1) / (counts.total() + len(VOCABULARY)))


def _evidence(word: str, label: str) -> float:
    others = (_weight(word, other) for other in COUNTS if other != label)
    return _weight(word, label) - max(others)
