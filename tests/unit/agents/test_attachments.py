"""What stands beside the text of a message becomes a model's attachments, whole or not at all."""

from __future__ import annotations

import base64

import pytest

from dragoman_agents import attachments
from dragoman_agents.attachments import attachments_of
from dragoman_agents.models import Attachment
from dragoman_bus.artifacts import ArtifactReference, artifact_part
from dragoman_bus.protocol.a2a import Message, Part, Role, text_part
from dragoman_bus.protocol.errors import InvalidInput

pytestmark = pytest.mark.anyio

STORED = ArtifactReference(
    digest=f"sha256:{'1' * 64}", size=5, media_type="application/pdf", filename="a.pdf"
)


def message(*parts: Part) -> Message:
    return Message(message_id="m-1", role=Role.USER, parts=[text_part("See"), *parts])


async def fetch(named: ArtifactReference) -> bytes:
    assert named == STORED
    return b"%PDF-"


async def test_bytes_addresses_and_stored_contents_keep_their_order_and_names() -> None:
    found = await attachments_of(
        message(
            Part(raw=base64.b64encode(b"GIF").decode(), media_type="image/gif", filename="b.gif"),
            artifact_part(STORED),
            Part(url="https://example.com/c.png", media_type="image/png"),
        ),
        fetch,
    )
    assert found == (
        Attachment(media_type="image/gif", data=b"GIF", name="b.gif"),
        Attachment(media_type="application/pdf", data=b"%PDF-", name="a.pdf"),
        Attachment(media_type="image/png", uri="https://example.com/c.png"),
    )


async def test_a_message_of_text_has_none() -> None:
    assert await attachments_of(message(), fetch) == ()


async def test_too_much_altogether_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attachments, "MOST_BYTES", 9)

    async def never(named: ArtifactReference) -> bytes:
        raise AssertionError("it is read although it is too large")

    small = Part(raw=base64.b64encode(b"12345").decode(), media_type="text/plain")
    with pytest.raises(InvalidInput, match="exceed 9 bytes"):
        await attachments_of(message(small, artifact_part(STORED)), never)
