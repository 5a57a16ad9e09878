"""Questions and answers as text for whoever checks or judges them, and what these say in turn.

Spec: spec/ensembles.md, checkers and judges. They are agents of their own, often models with a
prompt, so they are given text, and understood when they answer in one of several usual ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from dragoman_agents.ensembles.agreement import normalize_text

__all__ = ["criteria_text", "preference_of", "question_text", "value_text", "verdict_of"]

YES = frozenset({"yes", "true", "ok", "accept", "accepted", "pass", "correct"})
NO = frozenset({"no", "false", "reject", "rejected", "fail", "incorrect", "wrong"})
FIRST = frozenset({"first", "a", "1"})
SECOND = frozenset({"second", "b", "2"})


def value_text(value: Any) -> str:
    """A value as text: itself, or its JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def question_text(input: Any) -> str:
    """An input as text: its only member where that is text, else its JSON."""
    if isinstance(input, dict) and len(input) == 1:
        (only,) = input.values()
        if isinstance(only, str):
            return only
    return value_text(input)


def criteria_text(criteria: Sequence[str]) -> str:
    """One criterion to a line."""
    return "\n".join(f"- {criterion}" for criterion in criteria)


def verdict_of(value: Any) -> tuple[bool | None, str]:
    """Whether a checker accepts, and why; ``None`` when it said neither yes nor no."""
    if isinstance(value, bool):
        return value, ""
    if isinstance(value, dict):
        accepted = value.get("ok")
        why = value.get("why")
        words = why if isinstance(why, str) else ""
        return (accepted, words) if isinstance(accepted, bool) else (None, words)
    if isinstance(value, str):
        first, _, rest = value.strip().partition("\n")
        said = normalize_text(first).split()
        if said and said[0] in YES:
            return True, rest.strip() or first
        if said and said[0] in NO:
            return False, rest.strip() or first
    return None, ""


def preference_of(value: Any) -> Literal["first", "second", "tie"] | None:
    """Which of two answers a judge prefers; ``None`` when it did not say."""
    said = value.get("better") if isinstance(value, dict) else value
    if not isinstance(said, str):
        return None
    words = normalize_text(said).split()
    if not words:
        return None
    if words[0] in FIRST:
        return "first"
    if words[0] in SECOND:
        return "second"
    return "tie" if words[0] in ("tie", "equal", "both", "draw") else None
