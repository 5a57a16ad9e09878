"""A long input in pieces that fit, and the answers put together again in order.

Pieces end where the text does: at a paragraph, else a line, else a sentence, else a word. Answers
are joined in a tree whose every step takes neighbours only, so order is kept at any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["reduce_rounds", "split_text", "step_groups"]

_BORDERS = ("\n\n", "\n", ". ", "? ", "! ", " ")
Item = TypeVar("Item")


def split_text(text: str, size: int, *, overlap: int = 0) -> list[str]:
    """Pieces of at most ``size`` characters that together hold all of ``text``, in order.

    Args:
        text: What to split; nothing but white space gives no piece.
        size: The longest piece.
        overlap: How much of a piece's end the next one repeats at most.

    Raises:
        ValueError: the overlap leaves no room for progress.
    """
    if size < 1 or not 0 <= overlap <= size // 2:
        raise ValueError("a size is at least 1, and an overlap at most half of it")
    pieces: list[str] = []
    start = 0
    while start < len(text):
        end = _border(text, start, size)
        if text[start:end].strip():
            pieces.append(text[start:end])
        if end >= len(text):
            break
        start = max(end - overlap, start + 1)
    return pieces


def step_groups(items: Sequence[Item], fan_in: int) -> list[list[Item]]:
    """Neighbours in groups of ``fan_in``, as even as they can be; a lone item is not left over."""
    if fan_in < 2:
        raise ValueError("a fan-in is at least 2")
    count = -(-len(items) // fan_in)
    if count == 0:
        return []
    least, more = divmod(len(items), count)
    groups: list[list[Item]] = []
    at = 0
    for index in range(count):
        width = least + (index < more)
        groups.append(list(items[at : at + width]))
        at += width
    return groups


def reduce_rounds(count: int, fan_in: int) -> int:
    """How many rounds of joining ``count`` answers take until one is left."""
    rounds = 0
    while count > 1:
        count = len(step_groups(range(count), fan_in))
        rounds += 1
    return rounds


def _border(text: str, start: int, size: int) -> int:
    """Where a piece from ``start`` ends: the last border in its second half, else at its size."""
    limit = start + size
    if limit >= len(text):
        return len(text)
    for border in _BORDERS:
        at = text.rfind(border, start + size // 2, limit)
        if at >= 0 and at + len(border) <= limit:
            return at + len(border)
    return limit
