"""Follows the log of a durable task: live, without a consumer, and without a gap.

Spec: spec/durable.md, read. What is heard live names its position and the one before it on its
subject; whatever does not fit is read from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType

from dragoman_bus.durable.store import LogStore, fold_in
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.messages import TaskSubmit
from dragoman_bus.protocol.subjects import live_subject
from dragoman_bus.protocol.tasklog import LogEntry, LogFold
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.port import Delivery, Subscription, Transport
from dragoman_bus.transports.streams import Stored

__all__ = ["LogReader"]

logger = logging.getLogger("dragoman.client")

FIRST_LOOK_SECONDS = 0.5
SILENCE_SECONDS = 10.0
RETRY_SECONDS = 0.5
STALE_SECONDS = 0.05


class LogReader:
    """The entries of one task's log, in order, as they come; an async context manager.

    Args:
        transport: The bus.
        store: The logs.
        task_id: Which task.
        after: The position after which entries are given to ``next``; those before it are only
            folded.
    """

    def __init__(
        self, transport: Transport, store: LogStore, task_id: str, *, after: int = 0
    ) -> None:
        self.log = LogFold(task_id)
        self._transport = transport
        self._store = store
        self._after = after
        self._fresh: deque[LogEntry] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._last_on: dict[str, int] = {}
        # Until the log was read up to what was heard, nothing heard can be used: it may come after
        # an entry that is missing here.
        self._behind = True
        self._heard = 0
        self._open = False
        self._repair_wanted = False
        self._repairing: asyncio.Task[None] | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._subscription: Subscription | None = None
        self._remove_listener: Callable[[], None] = lambda: None

    async def __aenter__(self) -> LogReader:
        # One connection keeps the order: the server has the subscription before it reads.
        read = seen(self._read, lambda _: self.log.submission is not None)
        await asyncio.gather(self._listen(), read)
        # In a cluster, what is stored at this moment may be neither read, since the node is behind,
        # nor heard, since not every node knows of the subscription yet.
        self._begin(FIRST_LOOK_SECONDS)
        return self

    async def open_before(self, submission: TaskSubmit, accepted: Awaitable[LogFold]) -> None:
        """Listen first and submit then, for a task whose log begins with this submission.

        Raises:
            DragomanError: whatever ``accepted`` raises.
        """
        self.log.begin(submission)
        self._behind = False
        try:
            await self._listen()
            known = await accepted
        except BaseException:
            await self.close()
            raise
        if known.position > self.log.position:
            # It was submitted before; what happened since then is in its log.
            await self._read()
        self._begin()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening."""
        self._open = False
        self._remove_listener()
        if self._silence is not None:
            self._silence.cancel()
        if self._repairing is not None:
            self._repairing.cancel()
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    @property
    def has_next(self) -> bool:
        """Whether ``next`` returns at once."""
        return bool(self._fresh)

    async def next(self) -> LogEntry:
        """The next entry that changed something; waits for it."""
        while not self._fresh:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._fresh.popleft()

    def _begin(self, first_look: float = SILENCE_SECONDS) -> None:
        """From now on, repair what was missed, and look when nothing is heard."""
        self._open = True
        self._silence = asyncio.get_running_loop().call_later(first_look, self._look)
        if self._behind or self._repair_wanted:
            self._repair()

    def _look(self) -> None:
        self._silence = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._look)
        self._repair()

    async def _listen(self) -> None:
        self._remove_listener = self._transport.add_reconnect_listener(self._repair)
        self._subscription = await self._transport.subscribe(
            live_subject(self.log.task_id), self._hear, confirmed=False
        )

    def _hear(self, delivery: Delivery) -> None:
        headers = delivery.headers or {}
        position = int(headers.get("Nats-Sequence", "0"))
        if position <= self.log.position:
            return
        self._heard = max(self._heard, position)
        before = int(headers.get("Nats-Last-Sequence", "0"))
        if self._behind or before != self._last_on.get(_kind(delivery.subject), 0):
            self._behind = True
            self._repair()
            return
        self._take(Stored(delivery.subject, delivery.data, position, 0.0))

    def _take(self, stored: Stored) -> None:
        self._last_on[_kind(stored.subject)] = stored.position
        news = fold_in(self.log, stored)
        if news is not None and stored.position > self._after:
            self._fresh.append(news)
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    async def _read(self) -> None:
        self._behind = True
        async for stored in self._store.stored(self.log.task_id, after=self.log.position):
            self._take(stored)
        self._behind = self.log.position < self._heard

    def _repair(self) -> None:
        """Read the log soon; a task is made only now, since most readers never miss anything."""
        self._repair_wanted = True
        if self._open and (self._repairing is None or self._repairing.done()):
            self._repairing = asyncio.ensure_future(self._keep_repairing())

    async def _keep_repairing(self) -> None:
        while self._repair_wanted and not self.log.ended:
            self._repair_wanted = False
            try:
                await self._read()
                pause = STALE_SECONDS
            except DragomanError as error:
                logger.warning("the log of task %s waits: %s", self.log.task_id, error)
                pause = RETRY_SECONDS
            if self._behind:
                # Another node of a cluster may answer before it has what was heard.
                await asyncio.sleep(pause)
                self._repair_wanted = True


def _kind(subject: str) -> str:
    return subject.rpartition(".")[2]
