"""An agent that finds names, dates, numbers and e-mail addresses in text, by patterns.

No language model: a name is a title and a capitalized word, or two capitalized words in a row.
"""

from __future__ import annotations

import re

import msgspec

from dragoman_agents import Agent

agent = Agent("extractor", description="Finds names, dates, numbers and addresses in text")

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
DATE = re.compile(rf"\b(?:[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}|[0-9]{{1,2}} (?:{MONTHS}) [0-9]{{4}})\b")
NUMBER = re.compile(r"(?<![\w.:])[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?![\w:]|\.[0-9])")
TITLE = r"(?:Mr|Ms|Mrs|Dr|Captain|Professor)\.? "
WORD = "[A-Z][a-z]+"
NAME = re.compile(rf"\b{TITLE}{WORD}(?: {WORD})*|\b{WORD}(?: {WORD})+\b")
NOT_IN_NAMES = re.compile(
    rf"\b(?:{MONTHS}|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|"
    r"The|A|An|On|At|In|It|Of|For|Dear|Thank|With|Questions)\b"
)


class Findings(msgspec.Struct):
    """What a text mentions, each once, in the order of the text."""

    names: list[str]
    dates: list[str]
    numbers: list[str]
    emails: list[str]


@agent.skill(tags=["text"])
def extract(text: str) -> Findings:
    """Finds names, dates, numbers and e-mail addresses in a text."""
    emails = _take(EMAIL, text)
    dates = _take(DATE, text)
    # What was found is blanked, so the year of a date is not a number again.
    rest = DATE.sub(";", EMAIL.sub(";", text))
    # A word that only begins a sentence is lowered, so that it joins no name.
    names = _take(NAME, NOT_IN_NAMES.sub(";", rest))
    return Findings(names=names, dates=dates, numbers=_take(NUMBER, rest), emails=emails)


def _take(pattern: re.Pattern[str], text: str) -> list[str]:
    return list(dict.fromkeys(match.group().strip() for match in pattern.finditer(text)))
