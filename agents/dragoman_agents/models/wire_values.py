"""Values as servers send them, read with suspicion: SDKs do not check what they pass on."""

from __future__ import annotations

from typing import Any

from dragoman_bus.protocol.receipts import MAXIMUM_INTEGER

__all__ = ["WholeCharacters", "count_or_none", "text_or_none", "whole_characters"]


def count_or_none(value: Any) -> int | None:
    """A count of tokens, or ``None`` for what is none."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= MAXIMUM_INTEGER else None


def text_or_none(value: Any) -> str | None:
    """Text or ``None``.

    Raises:
        ValueError: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise ValueError(f"a member that should be text is {type(value).__name__}")
    return value


def whole_characters(text: str) -> str:
    """``text`` with its surrogates paired; one without its other half becomes U+FFFD.

    JSON can name half a character (``\\ud83d``), and no message can carry it.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class WholeCharacters:
    """Joins characters that a stream's pieces cut in half."""

    def __init__(self) -> None:
        self._half = ""

    def take(self, piece: str) -> str:
        """What is whole after one more piece; perhaps nothing."""
        text = self._half + piece
        self._half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return whole_characters(text.removesuffix(self._half))

    def rest(self) -> str:
        """What stands for the half that was left."""
        return whole_characters(self._half)
