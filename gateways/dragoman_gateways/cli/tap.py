"""A tap on the bus: every Dragoman message that passes some subjects, without taking part.

A tap on ``dragoman.v1.>`` counts for the server as somebody who listens, so while it runs, a task
for a skill that nobody has is not refused at once (no responders) but after its first second.
``REPLY_SUBJECTS`` do not have that effect.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec

from dragoman_bus.protocol.codec import outline
from dragoman_bus.protocol.subjects import PREFIX, REGISTRY_BUCKET
from dragoman_bus.transports.port import Delivery, Transport

__all__ = [
    "ALL_SUBJECTS",
    "LIVE_SUBJECTS",
    "REGISTRY_SUBJECTS",
    "REPLY_SUBJECTS",
    "TYPE_PREFIX",
    "Deliveries",
    "tap",
]

TYPE_PREFIX = "dev.dragoman."
REQUEST_SUBJECTS = f"{PREFIX}.>"
REGISTRY_SUBJECTS = f"$KV.{REGISTRY_BUCKET}.>"
REPLY_SUBJECTS = "_INBOX.>"
LIVE_SUBJECTS = f"{PREFIX}.live.>"
ALL_SUBJECTS = (REQUEST_SUBJECTS, REGISTRY_SUBJECTS, REPLY_SUBJECTS)

MAXIMUM_WAITING_BYTES = 64 * 1024 * 1024
"""So much may wait for a reader that is slower than the bus; what comes on top is missed."""


class Deliveries:
    """What passed, in the order in which it came.

    Attributes:
        missed: How many messages there was no room for, since what waits is bounded.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._waiting_bytes = 0
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue()

    def put(self, delivery: Delivery) -> None:
        """Keep one until it is read, or count it as missed."""
        size = _size_of(delivery)
        if self._waiting_bytes + size > MAXIMUM_WAITING_BYTES:
            self.missed += 1
            return
        self._waiting_bytes += size
        self._queue.put_nowait(delivery)

    def __aiter__(self) -> Deliveries:
        return self

    async def __anext__(self) -> Delivery:
        delivery = await self._queue.get()
        self._waiting_bytes -= _size_of(delivery)
        return delivery


def _size_of(delivery: Delivery) -> int:
    """About how many bytes of memory it takes: a small message is mostly what surrounds it."""
    return sys.getsizeof(delivery.data) + sys.getsizeof(delivery.headers) + 256


@asynccontextmanager
async def tap(
    transport: Transport, subjects: Iterable[str] = ALL_SUBJECTS
) -> AsyncIterator[Deliveries]:
    """Listen while the context is open; yields the deliveries that are to be Dragoman messages.

    On inboxes, the answers of other protocols (JetStream's, for instance) are left out, and so
    are copies of registry entries that somebody reads. Deletions of keys carry no message. Entries
    of durable tasks' logs that the server publishes again count where ``LIVE_SUBJECTS`` is named.
    """
    deliveries = Deliveries()
    wanted = tuple(subjects)
    live = LIVE_SUBJECTS in wanted

    def take(delivery: Delivery) -> None:
        if is_ours(delivery) or (live and delivery.subject.startswith(LIVE_SUBJECTS[:-1])):
            deliveries.put(delivery)

    subscriptions = [await transport.subscribe(subject, take) for subject in wanted]
    try:
        yield deliveries
    finally:
        for subscription in subscriptions:
            await subscription.unsubscribe()


def is_ours(delivery: Delivery) -> bool:
    """Whether a delivery must be a valid Dragoman message."""
    headers = delivery.headers or {}
    if "Status" in headers or "Nats-Stream" in headers:
        return False
    if delivery.subject.startswith("$KV."):
        return bool(delivery.data)
    if delivery.subject.startswith(f"{PREFIX}."):
        return True
    return bool(delivery.data) and _claims_to_be_ours(delivery.data)


def _claims_to_be_ours(data: bytes) -> bool:
    if outline(data).type.startswith(TYPE_PREFIX):
        return True
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Cut short on its way, it would still have begun like one of ours.
        return TYPE_PREFIX.encode() in data
    return isinstance(document, dict) and "protocolversion" in document
