"""Feeds one of the supervisor's queues to a function, each message until it was dealt with.

Spec: spec/durable.md, supervisor. A message is acknowledged after the function returned; when it
raised, the message comes again, so every function may run twice for one message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.transports.streams import Pulled, Puller, QueueSettings, Streams

__all__ = ["STALE_SECONDS", "UNKNOWN_DELIVERIES", "UNKNOWN_SECONDS", "Intake", "Later"]

logger = logging.getLogger("dragoman.supervisor")

CONCURRENCY = 64
RETRY_SECONDS = 1.0
DEFECT_SECONDS = 30.0
STALE_SECONDS = 0.2
"""After how long a message comes again whose news the node that was read from does not have."""
UNKNOWN_DELIVERIES, UNKNOWN_SECONDS = 10, 1.0
"""How often a message about a task that is not known comes again, and after how long."""


class Later(Exception):
    """Raised by a function that wants its message again after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Intake:
    """One queue and the function that deals with its messages.

    Args:
        streams: Where the queue is.
        stream: Its stream.
        queue: The queue; made when it does not exist.
        handle: Deals with one message.
    """

    def __init__(
        self,
        streams: Streams,
        stream: str,
        queue: QueueSettings,
        handle: Callable[[Pulled], Awaitable[None]],
    ) -> None:
        self._streams = streams
        self._stream = stream
        self._queue = queue
        self._handle = handle
        self._puller: Puller | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to pull."""
        await self._streams.ensure_queue(self._stream, self._queue)
        self._puller = await self._streams.puller(self._stream, self._queue.name, self._receive)
        self._puller.want(CONCURRENCY)

    async def stop(self) -> None:
        """Pull nothing more, and let what is being dealt with end."""
        if self._puller is not None:
            await self._puller.close()
            self._puller = None
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)

    def _receive(self, pulled: Pulled) -> None:
        task = asyncio.create_task(self._deal(pulled))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._puller is not None:
            self._puller.want(CONCURRENCY - len(self._tasks))

    async def _deal(self, pulled: Pulled) -> None:
        try:
            try:
                await self._handle(pulled)
            except Later as later:
                await pulled.reject(delay=later.seconds)
            except DragomanError as error:
                logger.warning("%s: dealt with again later: %s", pulled.subject, error)
                await pulled.reject(delay=RETRY_SECONDS)
            except Exception:
                # A defect; one message must not keep the others from being dealt with.
                logger.exception("%s: dealt with again later", pulled.subject)
                await pulled.reject(delay=DEFECT_SECONDS)
            else:
                await pulled.acknowledge()
        except DragomanError as error:
            logger.info("%s: not settled, it comes again: %s", pulled.subject, error)
