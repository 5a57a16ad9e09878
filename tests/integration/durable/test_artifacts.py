"""Contents that do not fit into a message, on a real server."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.artifacts import ArtifactReference, ArtifactStore, artifact_part, reference_in
from dragoman_bus.artifacts import store as artifact_store
from dragoman_bus.artifacts.store import ARTIFACT_STREAM
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent
from dragoman_bus.protocol.errors import LocalError, PayloadTooLarge
from dragoman_bus.transports.streams import Record
from tests.integration.durable.conftest import House

pytestmark = pytest.mark.anyio

CONTENT = os.urandom(3_000_000)


async def pieces() -> AsyncIterator[bytes]:
    """The content as somebody produces it, in pieces of odd sizes."""
    for start in range(0, len(CONTENT), 77_777):
        yield CONTENT[start : start + 77_777]


@pytest.fixture
async def store(house: House) -> ArtifactStore:
    """A store on a bus whose supervisor has made the bucket."""
    await house.supervisor()
    return (await house.bus()).artifacts


async def test_a_large_content_comes_back_whole(store: ArtifactStore, tmp_path: Path) -> None:
    reference = await store.put(CONTENT, media_type="video/mp4", filename="a.mp4")
    assert reference.digest == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert reference.size == len(CONTENT)
    assert await store.get(reference) == CONTENT
    await store.save(reference, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


async def test_a_stream_and_a_file_of_the_same_bytes_are_the_same_content(
    store: ArtifactStore, tmp_path: Path
) -> None:
    path = tmp_path / "content.bin"
    path.write_bytes(CONTENT)
    streamed = await store.put(pieces())
    from_file = await store.put(path)
    assert streamed.digest == from_file.digest
    assert from_file.filename == "content.bin"
    assert await store.get(streamed) == CONTENT


async def test_a_content_that_is_there_is_not_sent_again(store: ArtifactStore) -> None:
    await store.put(CONTENT)
    streams = store._transport.streams()
    before = await streams.stream_state(ARTIFACT_STREAM)
    await store.put(CONTENT)
    assert await streams.stream_state(ARTIFACT_STREAM) == before


async def test_a_part_names_a_content_and_nothing_else_does(store: ArtifactStore) -> None:
    reference = await store.put(b"abc", media_type="text/plain", filename="abc.txt")
    assert reference_in(artifact_part(reference)) == reference


async def test_whoever_hears_of_a_content_finds_it_stored(house: House) -> None:
    agent = Agent("drawer")

    @agent.skill
    async def draw(text: str, *, ctx: Context) -> str:
        reference = await ctx.artifacts.put(text.encode() * 100_000, media_type="text/plain")
        await ctx.emit(artifact_part(reference))
        await asyncio.Event().wait()
        return text

    await house.supervisor()
    await house.serve(agent)
    bus = await house.bus()
    task = await bus.submit("draw", "line")
    async for update in task:
        if isinstance(update, TaskArtifactUpdateEvent):
            reference = reference_in(update.artifact.parts[0])
            assert reference is not None
            assert await bus.artifacts.get(reference) == b"line" * 100_000
            break
    await task.cancel()


async def test_an_unknown_content_is_a_clear_error(store: ArtifactStore) -> None:
    missing = ArtifactReference(digest=f"sha256:{'0' * 64}", size=1)
    with pytest.raises(LocalError, match="ARTIFACT_NOT_FOUND"):
        await store.get(missing)


async def test_a_content_that_was_changed_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    reference = await store.put(b"honest" * 1000)
    found = await store._found(reference.digest)
    assert found is not None
    facts = found[0]
    forged = Record(subject=f"$O.dragoman_artifacts.C.{facts.nuid}", data=b"more")
    await store._transport.streams().append(ARTIFACT_STREAM, forged)
    with pytest.raises(LocalError, match="ARTIFACT_CORRUPT"):
        await store.save(reference, tmp_path / "copy")
    assert os.listdir(tmp_path) == []


async def test_a_content_beyond_the_bound_is_refused(house: House, store: ArtifactStore) -> None:
    reference = await store.put(CONTENT)
    small = ArtifactStore((await house.bus()).transport, maximum_bytes=1_000_000)
    with pytest.raises(PayloadTooLarge):
        await small.get(reference)
    with pytest.raises(PayloadTooLarge):
        await small.put(pieces())


async def test_a_content_that_would_expire_soon_is_stored_again(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_store, "RENEW_SECONDS", 0.0)
    first = await store.put(b"kept " * 1000)
    before = await store._found(first.digest)
    again = await store.put(b"kept " * 1000)
    after = await store._found(first.digest)
    assert before
    assert after
    assert after[1] > before[1]
    streams = store._transport.streams()
    # The first one's chunks go with their age.
    await streams.purge(ARTIFACT_STREAM, f"$O.dragoman_artifacts.C.{before[0].nuid}")
    assert await store.get(again) == b"kept " * 1000


async def test_a_content_whose_chunks_are_gone_is_not_stored(store: ArtifactStore) -> None:
    reference = await store.put(b"gone " * 1000)
    found = await store._found(reference.digest)
    assert found
    streams = store._transport.streams()
    await streams.purge(ARTIFACT_STREAM, f"$O.dragoman_artifacts.C.{found[0].nuid}")
    with pytest.raises(LocalError, match="ARTIFACT_NOT_FOUND"):
        await store.get(reference)


async def test_a_content_whose_first_chunks_have_expired_is_not_stored(
    store: ArtifactStore,
) -> None:
    content = b"going " * 1000
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    # What is left when the age of the first of two chunks is over.
    rest = Record(subject="$O.dragoman_artifacts.C.late", data=content[3000:])
    await store._transport.streams().append(ARTIFACT_STREAM, rest)
    await store._describe(digest, "late", len(content), 2)
    with pytest.raises(LocalError, match="ARTIFACT_NOT_FOUND"):
        await store.get(ArtifactReference(digest=digest, size=len(content)))
