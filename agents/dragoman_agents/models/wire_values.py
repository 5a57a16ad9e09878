"""Values as servers send them, read with suspicion: SDKs do not check what they pass on."""

from __future__ import annotations

from typing import Any

__all__ = ["count_or_none", "text_or_none"]


def count_or_none(value: Any) -> int | None:
    """A count of tokens, or ``None`` for what is none."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and value >= 0 else None


def text_or_none(value: Any) -> str | None:
    """Text or ``None``.

    Raises:
        ValueError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise ValueError(f"a member that should be text is {type(value).__name__}")
    return value
