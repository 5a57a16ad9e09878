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

__all__ = ["Events", "listen", "publish_event"]

logger = logging.getLogger("dragoman.client")

EVENT_BUFFER = 1024
"""Events held for a slow listener; beyond that the oldest is dropped and counted."""


class Events:
    """The events of a topic, one after the other; an async iterator without end.

    Attributes:
        dropped: How many were lost here because the listener was too slow.
        invalid: How many messages on the topic were no events.
    """

    def __init__(self, topic: str) -> None:
        self.dropped = 0
        self.invalid = 0
        self._topic = topic
        self._queue: asyncio.Queue[BusEvent] = asyncio.Queue(EVENT_BUFFER)

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> BusEvent:
        return await self._queue.get()

    def take(self, delivery: Delivery) -> None:
        """Keep a delivery until it is read."""
        try:
            message = decode(delivery.data)
            if not isinstance(message, BusEvent):
                raise ProtocolError("it is not an event", code="UNKNOWN_TYPE")
        except ProtocolError as error:
            self.invalid += 1
            logger.warning("an invalid event on %s: %s", delivery.subject, error)
            return
        if self._queue.full():
            self._queue.get_nowait()
            self.dropped += 1
            # Once for each doubling: a flood of events is no reason for a flood of words.
            if self.dropped & (self.dropped - 1) == 0:
                logger.warning("a listener of %s is slow: %d dropped", self._topic, self.dropped)
        self._queue.put_nowait(message)


async def publish_event(
    transport: Transport, sender: Sender, topic: str, event: str, payload: Any
) -> None:
    """Publish one event; ``payload`` is any JSON value."""
    data = EventData(topic=topic, event=event, payload=msgspec.Raw(msgspec.json.encode(payload)))
    message = sender.wrap(BusEvent, data, trace=current_trace())
    await transport.publish(event_subject(topic, event), encode(message))


@asynccontextmanager
async def listen(transport: Transport, topic: str, event: str = "*") -> AsyncIterator[Events]:
    """Hear the events of a topic while the context is open."""
    events = Events(topic)
    subscription = await transport.subscribe(event_subject(topic, event), events.take)
    try:
        yield events
    finally:
        await subscription.unsubscribe()
