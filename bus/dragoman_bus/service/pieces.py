"""Output that waits to be stored: texts that follow each other become one entry.

Spec: spec/operations.md, STR-9.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from msgspec import UnsetType

from dragoman_bus.protocol.a2a import Artifact, Part

__all__ = ["Piece", "next_piece"]

MAXIMUM_JOINED = 32 * 1024
"""Characters of text that are stored as one piece; a small server takes an eighth of its bytes."""

Piece: TypeAlias = tuple[Artifact, bool]
"""A piece of an artifact, and whether it continues what was stored of it."""


def next_piece(pending: deque[Piece], largest: int) -> Piece:
    """Take the next piece to store, together with the texts that continue it.

    Args:
        pending: What waits; at least one piece.
        largest: Characters that a joined text may have at most.
    """
    artifact, append = pending.popleft()
    texts = [_text(artifact)]
    length = len(texts[0] or "")
    while pending and texts[-1] is not None:
        following, more = pending[0]
        text = _text(following)
        if text is None or not more or following.artifact_id != artifact.artifact_id:
            break
        length += len(text)
        if length > min(largest, MAXIMUM_JOINED):
            break
        texts.append(text)
        pending.popleft()
    if len(texts) == 1:
        return artifact, append
    joined = Part(text="".join(filter(None, texts)))
    return Artifact(artifact_id=artifact.artifact_id, parts=[joined]), append


def _text(artifact: Artifact) -> str | None:
    """The text of an artifact that is one plain text part."""
    if len(artifact.parts) != 1:
        return None
    text = artifact.parts[0].text
    return None if isinstance(text, UnsetType) else text
