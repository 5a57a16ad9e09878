"""Stores contents by their digest in a NATS object store, and streams them back, verified.

Spec: spec/artifacts.md. The bucket is an ordinary object store, so ``nats object`` shows it. It is
read by batches of direct gets: ten times as fast as a consumer that acknowledges chunk by chunk.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

import msgspec

from dragoman_bus.artifacts.naming import ArtifactReference
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.errors import LocalError, PayloadTooLarge, RevisionConflict
from dragoman_bus.protocol.timestamps import format_timestamp
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.port import Transport
from dragoman_bus.transports.streams import Expectation, Page, Record, StreamSettings

__all__ = ["ARTIFACT_BUCKET", "ARTIFACT_STREAM", "ArtifactStore", "artifact_stream"]

ARTIFACT_BUCKET = "dragoman_artifacts"
ARTIFACT_STREAM = f"OBJ_{ARTIFACT_BUCKET}"
CHUNK_BYTES = 128 * 1024
HEADROOM_BYTES = 4096
WINDOW = 16
PAGE = 64
DEFAULT_MAXIMUM_BYTES = 1024**3
RENEW_SECONDS = 3600.0

Content = bytes | Path | AsyncIterable[bytes]


class _Facts(msgspec.Struct, kw_only=True):
    """The metadata of an object, as ADR-20 of NATS has it."""

    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str
    mtime: str


def artifact_stream(
    *, replicas: int = 1, in_memory: bool = False, maximum_age: float, maximum_bytes: int
) -> StreamSettings:
    """The stream of the bucket; contents vanish ``maximum_age`` seconds after they came."""
    return StreamSettings(
        name=ARTIFACT_STREAM,
        subjects=(f"$O.{ARTIFACT_BUCKET}.C.>", f"$O.{ARTIFACT_BUCKET}.M.>"),
        replicas=replicas,
        in_memory=in_memory,
        maximum_age=maximum_age,
        maximum_bytes=maximum_bytes,
        refuse_new=True,
    )


class ArtifactStore:
    """The stored contents of one bus.

    Args:
        transport: The bus.
        maximum_bytes: The largest content that is stored or read here.
    """

    def __init__(self, transport: Transport, *, maximum_bytes: int = DEFAULT_MAXIMUM_BYTES) -> None:
        self._transport = transport
        self._streams = transport.streams()
        self._maximum = maximum_bytes

    async def put(
        self,
        content: Content,
        *,
        media_type: str = "application/octet-stream",
        filename: str = "",
    ) -> ArtifactReference:
        """Store a content; one that was stored within the last hour is not sent again.

        Args:
            content: Bytes, a file, or pieces as they come.
            media_type: What it is.
            filename: What it is called.

        Raises:
            PayloadTooLarge: larger than ``maximum_bytes``.
            StreamFull: the bucket is full.
            BusUnavailable: ``NOT_CONFIGURED`` when the bus has no bucket.
        """
        if isinstance(content, Path):
            filename = filename or content.name
        if not isinstance(content, AsyncIterable):
            digest, size = await asyncio.to_thread(_digest_of, content)
            self._check_size(size)
            if _lives_long(await self._found(digest)):
                return ArtifactReference(
                    digest=digest, size=size, media_type=media_type, filename=filename
                )
        digest, size = await self._send(_pieces(content, self._chunk_bytes()))
        return ArtifactReference(digest=digest, size=size, media_type=media_type, filename=filename)

    async def open(self, reference: ArtifactReference) -> AsyncIterator[bytes]:
        """The content in pieces. Use nothing of it as a whole before the last one has come.

        Raises:
            LocalError: ``ARTIFACT_NOT_FOUND`` when it is not stored, or no longer;
                ``ARTIFACT_CORRUPT`` at the end, when what came has another digest.
        """
        found = await seen(lambda: self._found(reference.digest), bool)
        if found is None:
            raise _not_found(reference)
        facts = found[0]
        self._check_size(facts.size)
        hashed, count = hashlib.sha256(), 0
        async for piece in self._chunks(facts):
            hashed.update(piece)
            count += len(piece)
            yield piece
        if count < facts.size:
            raise _not_found(reference)
        if f"sha256:{hashed.hexdigest()}" != reference.digest:
            raise LocalError(
                f"{count} bytes came of artifact {reference.digest}, and they are not it",
                code="ARTIFACT_CORRUPT",
            )

    async def get(self, reference: ArtifactReference) -> bytes:
        """The whole content, verified; errors as ``open``."""
        return b"".join([piece async for piece in self.open(reference)])

    async def save(self, reference: ArtifactReference, path: Path) -> None:
        """Write the content to a file, which is there only if it is whole; errors as ``open``."""
        partial = path.with_name(f".{path.name}.{new_identifier()[-8:]}")
        try:
            with partial.open("wb") as file:
                async for piece in self.open(reference):
                    await asyncio.to_thread(file.write, piece)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    async def _send(self, pieces: AsyncIterator[bytes]) -> tuple[str, int]:
        """Store chunks, several under way at a time, then the facts that make them a content."""
        nuid = new_identifier()
        subject = f"$O.{ARTIFACT_BUCKET}.C.{nuid}"
        whole, size, chunks = hashlib.sha256(), 0, 0
        window: set[asyncio.Task[int]] = set()
        try:
            # Chunks keep their order since one connection keeps the order of what it sends.
            async for piece in pieces:
                whole.update(piece)
                size, chunks = size + len(piece), chunks + 1
                self._check_size(size)
                record = Record(subject=subject, data=piece)
                window.add(asyncio.create_task(self._streams.append(ARTIFACT_STREAM, record)))
                # Let it be written before the next one begins.
                await asyncio.sleep(0)
                if len(window) >= WINDOW:
                    done, window = await asyncio.wait(window, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            for task in window:
                await task
        finally:
            for task in window:
                task.cancel()
        digest = f"sha256:{whole.hexdigest()}"
        await self._describe(digest, nuid, size, chunks)
        return digest, size

    async def _describe(self, digest: str, nuid: str, size: int, chunks: int) -> None:
        encoded = base64.urlsafe_b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode()
        facts = _Facts(
            name=digest.removeprefix("sha256:"),
            bucket=ARTIFACT_BUCKET,
            nuid=nuid,
            size=size,
            chunks=chunks,
            digest=f"SHA-256={encoded}",
            mtime=format_timestamp(time.time()),
        )
        found = await self._found(digest)
        if _lives_long(found):
            # Somebody stored the same content meanwhile; these chunks go with their age.
            return
        subject = _facts_subject(digest)
        record = Record(
            subject=subject,
            data=msgspec.json.encode(facts),
            expect=Expectation(subject, found[1] if found else 0),
        )
        try:
            await self._streams.append(ARTIFACT_STREAM, record)
        except RevisionConflict:
            return

    async def _found(self, digest: str) -> tuple[_Facts, int, float] | None:
        """The description of a stored content, its position, and when it was stored."""
        stored = await self._streams.last(ARTIFACT_STREAM, _facts_subject(digest))
        if not stored:
            return None
        facts = msgspec.json.decode(stored[-1].data, type=_Facts)
        return facts, stored[-1].position, stored[-1].time

    async def _chunks(self, facts: _Facts) -> AsyncIterator[bytes]:
        """The chunks in order; the next page is under way while one is used."""
        subject = f"$O.{ARTIFACT_BUCKET}.C.{facts.nuid}"
        following = asyncio.create_task(self._page(subject, 0))
        try:
            while True:
                page = await following
                if page.more and page.messages:
                    after = page.messages[-1].position
                    following = asyncio.create_task(self._page(subject, after))
                for message in page.messages:
                    yield message.data
                if not page.more or not page.messages:
                    return
        finally:
            following.cancel()

    async def _page(self, subject: str, after: int) -> Page:
        return await self._streams.read(ARTIFACT_STREAM, subject, after=after, limit=PAGE)

    def _chunk_bytes(self) -> int:
        return max(1024, min(CHUNK_BYTES, self._transport.max_payload - HEADROOM_BYTES))

    def _check_size(self, size: int) -> None:
        if size > self._maximum:
            raise PayloadTooLarge(
                f"an artifact of {size} bytes is larger than the {self._maximum} allowed here"
            )


def _lives_long(found: tuple[_Facts, int, float] | None) -> bool:
    """Whether a content is there, and will be nearly as long as one that is stored now (ART-6)."""
    return found is not None and time.time() - found[2] < RENEW_SECONDS


def _not_found(reference: ArtifactReference) -> LocalError:
    words = f"no artifact {reference.digest} is stored, or it has expired"
    return LocalError(words, code="ARTIFACT_NOT_FOUND")


def _facts_subject(digest: str) -> str:
    name = base64.urlsafe_b64encode(digest.removeprefix("sha256:").encode()).decode()
    return f"$O.{ARTIFACT_BUCKET}.M.{name}"


def _digest_of(content: bytes | Path) -> tuple[str, int]:
    if isinstance(content, Path):
        with content.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return f"sha256:{digest.hexdigest()}", file.tell()
    return f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)


async def _pieces(content: Content, size: int) -> AsyncIterator[bytes]:
    """The content in pieces of ``size`` bytes; only the last one is shorter."""
    if isinstance(content, bytes):
        for start in range(0, len(content), size):
            yield content[start : start + size]
        return
    if isinstance(content, Path):
        with content.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, size):
                yield piece
        return
    buffer = bytearray()
    async for incoming in content:
        buffer += incoming
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)
