"""Pulls a JetStream queue: several requests under way, made again after every kind of loss.

A pull request vanishes with a restart of the server, a change of leader, or a connection; nothing
tells (reference: the traps of pulling). So each request is short, and one that neither brought its
messages nor ended in time counts as lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from dragoman_bus.protocol.errors import BusUnavailable
from dragoman_bus.transports.nats.api import NANOSECONDS, Connection, header
from dragoman_bus.transports.port import Delivery, Headers, Subscription
from dragoman_bus.transports.streams import PulledHandler

__all__ = ["JetStreamPulled", "JetStreamPuller"]

logger = logging.getLogger("dragoman.nats")

_GRACE_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


class JetStreamPulled:
    """One message of a queue; see ``Pulled``."""

    __slots__ = (
        "_connection",
        "_reply",
        "data",
        "delivery",
        "headers",
        "position",
        "subject",
        "waiting",
    )

    def __init__(self, connection: Connection, delivery: Delivery) -> None:
        self._connection = connection
        self._reply = delivery.reply
        self.subject = delivery.subject
        self.data = delivery.data
        self.headers: Headers = delivery.headers or {}
        # "$JS.ACK.<stream>.<consumer>.<deliveries>.<position>.<…>.<time>.<waiting>"; version 2 has
        # two tokens more in front and one behind.
        tokens = delivery.reply.split(".")
        first = 4 if len(tokens) == 9 else 6
        self.delivery = int(tokens[first])
        self.position = int(tokens[first + 1])
        self.waiting = int(tokens[first + 4])

    async def acknowledge(self) -> None:
        """See ``Pulled.acknowledge``."""
        await self._connection.publish(self._reply, b"+ACK")

    async def reject(self, *, delay: float = 0.0) -> None:
        """See ``Pulled.reject``."""
        document = b"-NAK"
        if delay > 0:
            document += b" " + msgspec.json.encode({"delay": int(delay * NANOSECONDS)})
        await self._connection.publish(self._reply, document)

    async def terminate(self, reason: str) -> None:
        """See ``Pulled.terminate``."""
        await self._connection.publish(self._reply, f"+TERM {reason}".encode())

    async def progress(self) -> None:
        """See ``Pulled.progress``."""
        await self._connection.publish(self._reply, b"+WPI")


class JetStreamPuller:
    """See ``Puller``.

    Args:
        connection: The transport.
        stream: The stream.
        queue: The name of the consumer.
        handler: Gets each message.
        expires: Seconds after which a request that brought nothing is made again.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        queue: str,
        handler: PulledHandler,
        expires: float,
    ) -> None:
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{queue}"
        self.queue = queue
        self._handler = handler
        self._expires = expires
        self._wanted = 0
        self._asked = 0
        self._asking = False
        self._inbox = ""
        self._counter = 0
        self._open: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._pause = _FIRST_PAUSE_SECONDS
        self._pausing: asyncio.TimerHandle | None = None
        self._closed = False
        self._subscription: Subscription | None = None
        self._remove_listener: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen for what the requests bring."""
        self._inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe(f"{self._inbox}.*", self._receive)
        self._remove_listener = self._connection.add_reconnect_listener(self._on_reconnect)

    def want(self, number: int) -> None:
        """See ``Puller.want``."""
        self._wanted = number
        # A request for each message that came would cost as much as the message.
        if number > 2 * self._asked:
            self._ask_soon()

    async def close(self) -> None:
        """See ``Puller.close``."""
        self._closed = True
        self._wanted = 0
        self._remove_listener()
        self._end_pause()
        for timer in self._timers.values():
            timer.cancel()
        if self._subscription is not None:
            await self._subscription.drain()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        # Nothing of it may be left when the event loop ends.
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask_soon(self) -> None:
        # Not once it is closed: the event loop may end before the task that asks has begun.
        if not self._asking and not self._closed and self._pausing is None:
            self._asking = True
            self._spawn(self._ask())

    async def _ask(self) -> None:
        self._asking = False
        number = self._wanted - self._asked
        if number <= 0 or self._closed:
            return
        self._counter += 1
        token = str(self._counter)
        self._open[token] = number
        self._asked += number
        loop = asyncio.get_running_loop()
        self._timers[token] = loop.call_later(self._expires + _GRACE_SECONDS, self._lost, token)
        query = {"batch": number, "expires": int(self._expires * NANOSECONDS)}
        try:
            await self._connection.publish(
                self._subject, msgspec.json.encode(query), reply=f"{self._inbox}.{token}"
            )
        except BusUnavailable as error:
            logger.info("the queue %s is not pulled now: %s", self.queue, error)
            self._forget(token)
            self._later()

    def _receive(self, delivery: Delivery) -> None:
        # A message keeps its own subject and is routed by the reply subject of the request, which
        # it does not show; so a message counts against the oldest open request.
        if delivery.headers is not None and header(delivery, "Status") and not delivery.reply:
            self._end(delivery)
            return
        pulled = JetStreamPulled(self._connection, delivery)
        if self._closed:
            self._spawn(pulled.reject())
            return
        self._pause = _FIRST_PAUSE_SECONDS
        self._count()
        self._wanted = max(0, self._wanted - 1)
        self._handler(pulled)

    def _count(self) -> None:
        for token, left in self._open.items():
            if left <= 1:
                self._forget(token)
            else:
                self._open[token] = left - 1
                self._asked -= 1
            return

    def _end(self, delivery: Delivery) -> None:
        """A request ended without all its messages."""
        self._forget(delivery.subject.rsplit(".", 1)[-1])
        status = header(delivery, "Status")
        if status in ("408", "404"):
            self._pause = _FIRST_PAUSE_SECONDS
            self._ask_soon()
            return
        if status != "503":
            logger.info(
                "pulling the queue %s: %s %s", self.queue, status, header(delivery, "Description")
            )
        self._later()

    def _lost(self, token: str) -> None:
        self._forget(token)
        self._ask_soon()

    def _later(self) -> None:
        """Ask again after a pause that grows: the queue is not there, or has no leader.

        Until then nothing is asked, whatever is wanted: slots change with every direct task.
        """
        if not self._closed and self._pausing is None:
            loop = asyncio.get_running_loop()
            self._pausing = loop.call_later(self._pause, self._resume)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def _resume(self) -> None:
        self._end_pause()
        self._ask_soon()

    def _end_pause(self) -> None:
        if self._pausing is not None:
            self._pausing.cancel()
            self._pausing = None

    def _on_reconnect(self) -> None:
        self._end_pause()
        for token in list(self._open):
            self._forget(token)
        self._ask_soon()

    def _forget(self, token: str) -> None:
        self._asked -= self._open.pop(token, 0)
        timer = self._timers.pop(token, None)
        if timer is not None:
            timer.cancel()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
