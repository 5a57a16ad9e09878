"""The pictures and files of a task's message, as a model is given them.

Every part that is neither text nor data is one: bytes in the message, a stored artifact, or an
address that the provider reads itself.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable

from msgspec import UnsetType

from dragoman_agents.models.port import Attachment
from dragoman_bus.artifacts import ArtifactReference, reference_in
from dragoman_bus.protocol.a2a import Message, Part
from dragoman_bus.protocol.errors import InvalidInput

__all__ = ["MOST_BYTES", "attachments_of"]

Fetch = Callable[[ArtifactReference], Awaitable[bytes]]

MOST_BYTES = 32 * 1024 * 1024
"""All attachments of a message together: about what providers take, and what is held in memory."""


async def attachments_of(message: Message, fetch: Fetch) -> tuple[Attachment, ...]:
    """What is attached to ``message``, in its order.

    Args:
        message: The task's.
        fetch: Reads a stored content (``ArtifactStore.get``).

    Raises:
        InvalidInput: a part without a media type, that is no base64, or too much altogether.
        LocalError: a stored content that is not there, or damaged.
    """
    found: list[Attachment] = []
    left = MOST_BYTES
    for part in message.parts:
        if isinstance(part.raw, UnsetType) and isinstance(part.url, UnsetType):
            continue
        attachment = await _attachment(part, fetch, left)
        left -= len(attachment.data or b"")
        found.append(attachment)
    return tuple(found)


async def _attachment(part: Part, fetch: Fetch, left: int) -> Attachment:
    if isinstance(part.media_type, UnsetType):
        raise InvalidInput("a picture or file in the message needs its mediaType")
    name = None if isinstance(part.filename, UnsetType) else part.filename
    reference = reference_in(part)
    if reference is None and not isinstance(part.url, UnsetType):
        return Attachment(media_type=part.media_type, uri=part.url, name=name)
    if reference is not None:
        _check_size(reference.size, left)
        data = await fetch(reference)
    else:
        data = _decoded(part)
    _check_size(len(data), left)
    return Attachment(media_type=part.media_type, data=data, name=name)


def _decoded(part: Part) -> bytes:
    assert not isinstance(part.raw, UnsetType)
    try:
        return base64.b64decode(part.raw, validate=True)
    except binascii.Error:
        raise InvalidInput("a file in the message is not base64") from None


def _check_size(size: int, left: int) -> None:
    if size > left:
        raise InvalidInput(f"the pictures and files of the message exceed {MOST_BYTES} bytes")
