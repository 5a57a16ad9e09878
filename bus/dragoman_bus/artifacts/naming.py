"""How a message names a stored content: an A2A part with a URL that is the content's digest.

Spec: spec/artifacts.md.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.a2a import Part

__all__ = ["ArtifactReference", "artifact_part", "reference_in"]

_URL = re.compile(r"dragoman-artifact:sha256:([0-9a-f]{64})")


class ArtifactReference(msgspec.Struct, frozen=True, kw_only=True):
    """A stored content.

    Attributes:
        digest: ``sha256:`` and 64 lower-case hex digits, over all bytes.
        size: Bytes.
        media_type: As its sender says.
        filename: As its sender says.
    """

    digest: str
    size: int
    media_type: str = "application/octet-stream"
    filename: str = ""

    @property
    def url(self) -> str:
        """What stands in a part's ``url``."""
        return f"dragoman-artifact:{self.digest}"


def artifact_part(reference: ArtifactReference) -> Part:
    """The part that names a stored content."""
    return Part(
        url=reference.url,
        media_type=reference.media_type,
        filename=reference.filename or UNSET,
        metadata={"size": reference.size},
    )


def reference_in(part: Part) -> ArtifactReference | None:
    """The stored content that a part names; ``None`` for any other part."""
    if isinstance(part.url, UnsetType):
        return None
    match = _URL.fullmatch(part.url)
    if match is None:
        return None
    size = {} if isinstance(part.metadata, UnsetType) else part.metadata
    known = size.get("size", 0)
    return ArtifactReference(
        digest=f"sha256:{match[1]}",
        size=known if isinstance(known, int) and known >= 0 else 0,
        media_type=part.media_type or "application/octet-stream",
        filename=part.filename or "",
    )
