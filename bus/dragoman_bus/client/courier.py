"""What all tasks of one client share: sending, the inbox, and one ticker that watches over them.

Spec: spec/operations.md, keep-alive and deadlines. One ticker serves all tasks, since a timer per
task would cost more than a short task does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from dragoman_bus.client.inbox import Inbox
from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import BusUnavailable, DragomanError, LocalError
from dragoman_bus.protocol.messages import Envelope
from dragoman_bus.transports.port import Transport

__all__ = ["Courier", "Watched"]

logger = logging.getLogger("dragoman.client")

TICK_SECONDS = 0.25


class Watched(Protocol):
    """What the courier watches over."""

    def tick(self, now: float) -> None:
        """Judge silence and deadline; ``now`` is the loop's time."""

    def resume(self) -> None:
        """The connection came back: find out what was missed."""


class Courier:
    """Sends messages and keeps the list of tasks in flight.

    Args:
        transport: The bus.
        sender: Wraps data into envelopes of this client.
        maximum_in_flight: How many tasks may be open at once.
    """

    def __init__(self, transport: Transport, sender: Sender, maximum_in_flight: int) -> None:
        self.transport = transport
        self.sender = sender
        self.inbox = Inbox(transport)
        self.invalid_messages = 0
        self._maximum = maximum_in_flight
        self._watched: set[Watched] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._ticker: asyncio.TimerHandle | None = None
        self._remove_listener: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Open the inbox and begin to watch."""
        await self.inbox.start()
        self._remove_listener = self.transport.add_reconnect_listener(self._on_reconnect)
        self._tick()

    async def stop(self) -> None:
        """Stop watching, and wait for what is being sent."""
        self._remove_listener()
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if self._background:
            await asyncio.wait(self._background, timeout=1.0)
        await self.inbox.stop()

    @property
    def in_flight(self) -> int:
        """How many tasks are open."""
        return len(self._watched)

    def watch(self, task: Watched) -> None:
        """Begin to watch a task.

        Raises:
            BusUnavailable: The bus is not open, so that nobody would watch.
            LocalError: ``LIMIT_EXCEEDED`` when too many tasks are open.
        """
        if self._ticker is None:
            raise BusUnavailable(
                "the bus is not open: use `async with`, or start it", retryable=False
            )
        if len(self._watched) >= self._maximum:
            raise LocalError(
                f"{self._maximum} tasks are in flight already on this client",
                code="LIMIT_EXCEEDED",
                retryable=True,
            )
        self._watched.add(task)

    def forget(self, task: Watched) -> None:
        """Stop watching a task."""
        self._watched.discard(task)

    async def send(self, subject: str, message: Envelope, *, reply: str = "") -> None:
        """Publish a message now."""
        await self.transport.publish(subject, encode(message), reply=reply)

    def send_soon(self, subject: str, message: Envelope, *, reply: str = "") -> None:
        """Publish from where one cannot wait; a failure is logged, the ticker deals with it."""
        self.run_soon(self.send(subject, message, reply=reply))

    def run_soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` in the background; its errors are logged."""
        task = asyncio.create_task(self._guard(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except DragomanError as error:
            logger.warning("could not send: %s", error)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for task in list(self._watched):
            task.tick(now)
        self._ticker = loop.call_later(TICK_SECONDS, self._tick)

    def _on_reconnect(self) -> None:
        for task in list(self._watched):
            task.resume()
