"""Events between agents: published to a topic, heard by whoever listens.

Spec: spec/operations.md, events. At most once: who is not there does not hear it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import BusEvent
from dragoman_bus.protocol.payloads import EventData
from dragoman_bus.protocol.subjects import event_subject
from dragoman_bus.tracing import current_trace
from dragoman_bus.transports.port import Delivery, Transport

__all__ = ["listen", "publish_event"]

logger = logging.getLogger("dragoman.client")

EVENT_BUFFER = 1024
"""Events held for a slow listener; beyond that the oldest is dropped and counted in the log."""


async def publish_event(
    transport: Transport, sender: Sender, topic: str, event: str, payload: Any
) -> None:
    """Publish one event; ``payload`` is any JSON value."""
    data = EventData(topic=topic, event=event, payload=msgspec.Raw(msgspec.json.encode(payload)))
    message = sender.wrap(BusEvent, data, trace=current_trace())
    await transport.publish(event_subject(topic, event), encode(message))


@asynccontextmanager
async def listen(
    transport: Transport, topic: str, event: str = "*"
) -> AsyncIterator[AsyncIterator[BusEvent]]:
    """Hear the events of a topic while the context is open."""
    queue: asyncio.Queue[BusEvent] = asyncio.Queue(EVENT_BUFFER)

    def take(delivery: Delivery) -> None:
        try:
            message = decode(delivery.data)
        except ProtocolError as error:
            logger.warning("an invalid event on %s: %s", delivery.subject, error)
            return
        if not isinstance(message, BusEvent):
            return
        if queue.full():
            queue.get_nowait()
            logger.warning("a listener of %s is too slow: its oldest event is dropped", topic)
        queue.put_nowait(message)

    async def events() -> AsyncIterator[BusEvent]:
        while True:
            yield await queue.get()

    subscription = await transport.subscribe(event_subject(topic, event), take)
    try:
        yield events()
    finally:
        await subscription.unsubscribe()
