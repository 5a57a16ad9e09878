"""An agent that translates word by word from a shipped glossary, and streams line by line.

No language model, and no grammar: a word that the glossary lacks stands in ⟨brackets⟩.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

from dragoman_agents import Agent

agent = Agent("translator", description="Translates word by word from a glossary")

GLOSSARY = Path(__file__).parent / "data" / "glossary-en-fr.tsv"


def load(path: Path) -> dict[str, str]:
    """Read a glossary; lines are `english<TAB>french`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


ENTRIES = load(GLOSSARY)
# Longest first, so that "good morning" wins over "good".
PHRASES = "|".join(re.escape(entry) for entry in sorted(ENTRIES, key=len, reverse=True))
PATTERN = re.compile(rf"\b(?:{PHRASES})\b|[A-Za-z]+(?:'[a-z]+)?", re.IGNORECASE)


@agent.skill(tags=["text", "language"])
async def translate(text: str) -> AsyncIterator[str]:
    """Translates English to French word by word; unknown words are marked, never guessed."""
    for line in text.splitlines(keepends=True):
        yield PATTERN.sub(_translate, line)


def _translate(match: re.Match[str]) -> str:
    found = match.group()
    french = ENTRIES.get(found.lower())
    if french is None:
        return f"⟨{found}⟩"
    before = match.string[: match.start()].rstrip(' "')
    begins_sentence = not before or before[-1] in ".!?:"
    return french[0].upper() + french[1:] if begins_sentence else french
