"""A tap on the bus: every Dragoman message that passes some subjects, without taking part.

A tap on ``dragoman.v1.>`` counts for the server as somebody who listens, so while it runs, a task
for a skill that nobody has is not refused at once (no responders) but after its first second.
``REPLY_SUBJECTS`` do not have that effect.
"""

from __future__ import annotations

import asyncio
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
    "tap",
]

TYPE_PREFIX = "dev.dragoman."
REQUEST_SUBJECTS = f"{PREFIX}.>"
REGISTRY_SUBJECTS = f"$KV.{REGISTRY_BUCKET}.>"
REPLY_SUBJECTS = "_INBOX.>"
LIVE_SUBJECTS = f"{PREFIX}.live.>"
ALL_SUBJECTS = (REQUEST_SUBJECTS, REGISTRY_SUBJECTS, REPLY_SUBJECTS)


@asynccontextmanager
async def tap(
    transport: Transport, subjects: Iterable[str] = ALL_SUBJECTS
) -> AsyncIterator[AsyncIterator[Delivery]]:
    """Listen while the context is open; yields the deliveries that are to be Dragoman messages.

    On inboxes, the answers of other protocols (JetStream's, for instance) are left out, and so
    are copies of registry entries that somebody reads. Deletions of keys carry no message. Entries
    of durable tasks' logs that the server publishes again count where ``LIVE_SUBJECTS`` is named.
    """
    queue: asyncio.Queue[Delivery] = asyncio.Queue()
    wanted = tuple(subjects)
    live = LIVE_SUBJECTS in wanted

    def take(delivery: Delivery) -> None:
        if is_ours(delivery) or (live and delivery.subject.startswith(LIVE_SUBJECTS[:-1])):
            queue.put_nowait(delivery)

    async def deliveries() -> AsyncIterator[Delivery]:
        while True:
            yield await queue.get()

    subscriptions = [await transport.subscribe(subject, take) for subject in wanted]
    try:
        yield deliveries()
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
