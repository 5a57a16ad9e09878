"""Three agents with the same skill, taught differently; one of them from labels that are wrong.

No language model. `examples/ensemble.toml` lets them vote: the one that was taught wrongly is
outvoted, and the receipt tells what it said.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import classify

from dragoman_agents import Agent

by_words = Agent("by-words", description="Classifies by how often words stand under a label")
by_likeness = Agent("by-likeness", description="Classifies by the sentences that are most alike")
mistaught = Agent("mistaught", description="Classifies by words, learned from wrong labels")


def sentences(path: Path) -> list[tuple[str, set[str]]]:
    """The labelled sentences, each as the set of its words."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines if not line.startswith("#"))
    return [(label, set(classify.words(text))) for label, text in pairs]


SENTENCES = sentences(classify.TRAINING)


@by_words.skill(tags=["text"])
def topic(text: str) -> str:
    """Says whether a text is about trade, cooking, science or sport."""
    return classify.classify(text).label


def nearest(text: str) -> str:
    """Says whether a text is about trade, cooking, science or sport."""
    words = set(classify.words(text))
    likeness: Counter[str] = Counter()
    for label, sentence in SENTENCES:
        likeness[label] += len(words & sentence) / math.sqrt(len(sentence) or 1)
    return likeness.most_common(1)[0][0]


def misled(text: str) -> str:
    """Says whether a text is about trade, cooking, science or sport."""
    # Whoever labelled its training data was off by one line of the list of labels.
    labels = list(classify.COUNTS)
    right = classify.classify(text).label
    return labels[(labels.index(right) + 1) % len(labels)]


by_likeness.add_skill("topic", nearest, tags=["text"])
mistaught.add_skill("topic", misled, tags=["text"])
