"""An agent that counts words, and that writes a report with the help of two other agents.

No language model: it counts by itself, and delegates `extract` and `classify` to whoever has them.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import msgspec

from dragoman_agents import Agent, Context

agent = Agent("counter", description="Counts words and sentences, and reports on texts")


class Counts(msgspec.Struct):
    """How long a text is, and its most frequent words of five letters or more."""

    words: int
    sentences: int
    characters: int
    most_frequent: dict[str, int]


class Report(msgspec.Struct):
    """One text seen by three agents."""

    counts: Counts
    findings: Any
    verdict: Any


@agent.skill(tags=["text"])
def count(text: str, most: int = 5) -> Counts:
    """Counts words, sentences and characters, and names the most frequent long words."""
    words = re.findall(r"[A-Za-z]+(?:['-][A-Za-z]+)*", text)
    frequent = Counter(word.lower() for word in words if len(word) >= 5)
    return Counts(
        words=len(words),
        sentences=len(re.findall(r"[.!?]+[\"']?(?=\s|$)", text)),
        characters=len(text),
        most_frequent=dict(frequent.most_common(most)),
    )


@agent.skill(tags=["text"])
async def report(text: str, *, ctx: Context) -> Report:
    """Reports on a text: counts it here, and asks other agents what it mentions and is about."""
    await ctx.status("asking for findings and a verdict")
    findings, verdict = await asyncio.gather(
        ctx.delegate("extract", text=text),
        ctx.delegate("classify", text=text),
    )
    return Report(counts=count(text), findings=findings.value, verdict=verdict.value)
