"""What a program hands to the bus, judged before it stands in a message.

The protocol's types are not checked when they are made, and whoever reads a message that breaks its
schema drops it whole: the answer in it, too. So it is refused here, where the mistake was made.

Spec: spec/model.md.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.receipts import LONGEST_REASON

__all__ = ["check_sound", "check_text", "legible", "reason_of"]


def check_sound(value: msgspec.Struct, what: str) -> bytes:
    """Refuse a part of a message that no reader would accept; its document.

    Args:
        value: Of a type of the protocol.
        what: What it is, for the error.

    Raises:
        ValueError: says which member is wrong.
    """
    try:
        document = msgspec.json.encode(value)
        msgspec.json.decode(document, type=type(value))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{what} cannot be sent: {error}") from None
    return document


def check_text(text: str, what: str) -> None:
    """Refuse what is no text, or holds half a character.

    Raises:
        TypeError: it is something else.
        ValueError: it holds a lone surrogate, which UTF-8 cannot carry.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} is text, not {type(text).__name__}")
    if not text.isascii():
        text.encode()


def reason_of(words: str | None) -> str | UnsetType:
    """A reason as a message can carry it: the wish counts, so words too long for it are cut.

    Raises:
        TypeError: it is no text.
    """
    if not words:
        return UNSET
    if not isinstance(words, str):
        raise TypeError(f"a reason is text, not {type(words).__name__}")
    return legible(words[:LONGEST_REASON])


def legible(text: str) -> str:
    """``text`` as UTF-8 can carry it: what is quoted may hold half a character."""
    return text if text.isascii() else text.encode(errors="replace").decode()
