"""What the replicas of an ensemble share: documents in one bucket, changed by compare-and-set.

Spec: spec/ensembles.md, shared knowledge. Nothing here decides; a bus without the bucket leaves
each replica to itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from dragoman_bus.protocol.errors import BusUnavailable, DragomanError, RevisionConflict
from dragoman_bus.transports.port import BucketSettings, Change, KeyValue, Transport

__all__ = ["ENSEMBLE_BUCKET", "Store", "quietly"]

logger = logging.getLogger("dragoman.ensembles")

ENSEMBLE_BUCKET = "dragoman_ensembles"
MAXIMUM_BYTES = 64 * 1024 * 1024
ATTEMPTS = 50
Document = TypeVar("Document", bound=msgspec.Struct)
Result = TypeVar("Result")


class Store:
    """The bucket, as typed documents. Make one with ``open``."""

    def __init__(self, transport: Transport, bucket: KeyValue) -> None:
        self._transport = transport
        self._bucket = bucket

    @classmethod
    async def open(cls, transport: Transport) -> Store | None:
        """Open the bucket, which is made at its first use; ``None`` where it cannot be used."""
        settings = BucketSettings(maximum_bytes=MAXIMUM_BYTES)
        try:
            bucket = await transport.key_value(ENSEMBLE_BUCKET, settings=settings)
        except BusUnavailable as error:
            logger.warning("what ensembles learn here is not shared: %s", error)
            return None
        return cls(transport, bucket)

    async def read(self, key: str, kind: type[Document]) -> Document | None:
        """The document under ``key``; ``None`` when there is none that can be read."""
        entry = await self._bucket.get(key)
        return None if entry is None else _decoded(entry.value, kind)

    async def take(
        self, key: str, kind: type[Document], judge: Callable[[Document], Result]
    ) -> Result | None:
        """What ``judge`` makes of a document, which is then gone; only one taker gets it.

        What ``judge`` raises leaves the document where it is; ``None`` when there is none.
        """
        entry = await self._bucket.get(key)
        document = None if entry is None else _decoded(entry.value, kind)
        if entry is None or document is None:
            return None
        judged = judge(document)
        try:
            await self._bucket.delete(key, expected_revision=entry.revision)
        except RevisionConflict:
            return None
        return judged

    async def put(self, key: str, document: msgspec.Struct, *, ttl: float | None = None) -> None:
        """Write a document, whatever was there."""
        await self._bucket.put(key, msgspec.json.encode(document), ttl=ttl)

    async def delete(self, key: str) -> None:
        """Remove a document."""
        await self._bucket.delete(key)

    async def change(
        self, key: str, kind: type[Document], apply: Callable[[Document], None]
    ) -> Document:
        """Change a document in place, on top of what others wrote meanwhile; the new one.

        Raises:
            RevisionConflict: others were quicker too many times.
        """
        for _ in range(ATTEMPTS):
            entry = await self._bucket.get(key)
            document = (None if entry is None else _decoded(entry.value, kind)) or kind()
            apply(document)
            try:
                await self._bucket.put(
                    key,
                    msgspec.json.encode(document),
                    expected_revision=0 if entry is None else entry.revision,
                )
            except RevisionConflict:
                await asyncio.sleep(random.uniform(0.0, 0.05))
            else:
                return document
        raise RevisionConflict(f"{key} is changed by others all the time")

    async def watch(
        self, pattern: str, kind: type[Document], heard: Callable[[str, Document | None], None]
    ) -> Callable[[], Awaitable[None]]:
        """Call ``heard`` for all documents there are, then for each change; what stops it."""

        def changed(change: Change) -> None:
            if change.value is None:
                heard(change.key, None)
            elif (document := _decoded(change.value, kind)) is not None:
                heard(change.key, document)

        subscription = await self._bucket.watch(pattern, changed)
        loading: set[asyncio.Future[None]] = set()

        def again() -> None:
            # Changes were missed while the connection was down.
            load = asyncio.ensure_future(quietly(self.load(pattern, kind, heard)))
            loading.add(load)
            load.add_done_callback(loading.discard)

        remove = self._transport.add_reconnect_listener(again)
        await self.load(pattern, kind, heard)

        async def stop() -> None:
            remove()
            for load in loading:
                load.cancel()
            await subscription.unsubscribe()

        return stop

    async def load(
        self, pattern: str, kind: type[Document], heard: Callable[[str, Document | None], None]
    ) -> None:
        """Call ``heard`` for all documents there are."""
        for entry in await self._bucket.entries(pattern):
            document = _decoded(entry.value, kind)
            if document is not None:
                heard(entry.key, document)


async def quietly(work: Any) -> None:
    """Await what may fail without harm to the task at hand."""
    try:
        await work
    except DragomanError as error:
        logger.warning("what an ensemble learned was not shared: %s", error)


def _decoded(value: bytes, kind: type[Document]) -> Document | None:
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        logger.warning("an entry of %s cannot be read: %s", ENSEMBLE_BUCKET, error)
        return None
