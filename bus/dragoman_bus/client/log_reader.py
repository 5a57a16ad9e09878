"""Follows the log of a durable task: live, without a consumer, and without a gap.

Spec: spec/durable.md, read. What is heard live names its position and the one before it on its
subject; whatever does not fit is read from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType

from dragoman_bus.durable.store import LogStore, fold_in
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.messages import TaskSubmit
from dragoman_bus.protocol.subjects import live_subject
from dragoman_bus.protocol.tasklog import LogEntry, LogFold
from dragoman_bus.transports.port import Delivery, Subscription, Transport
from dragoman_bus.transports.streams import Stored

__all__ = ["LogReader"]

logger = logging.getLogger("dragoman.client")

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
        self._fresh: asyncio.Queue[LogEntry] = asyncio.Queue()
        self._last_on: dict[str, int] = {}
        # Until the log was read up to what was heard, nothing heard can be used: it may come after
        # an entry that is missing here.
        self._behind = True
        self._heard = 0
        self._repair_wanted = asyncio.Event()
        self._repairing: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None
        self._remove_listener: Callable[[], None] = lambda: None

    async def __aenter__(self) -> LogReader:
        # One connection keeps the order: the server has the subscription before it reads.
        await asyncio.gather(self._listen(), self._read())
        if self._behind:
            self._repair_wanted.set()
        self._repairing = asyncio.create_task(self._keep_repairing())
        return self

    async def open_before(self, submission: TaskSubmit, accepted: Awaitable[LogFold]) -> None:
        """Listen first and submit then, for a task whose log begins with this submission.

        Raises:
            DragomanError: whatever ``accepted`` raises.
        """
        self.log.begin(submission)
        self._behind = False
        listening = asyncio.ensure_future(self._listen())
        try:
            known = await accepted
            await listening
        except BaseException:
            await asyncio.wait([listening])
            await self.close()
            raise
        if known.position > self.log.position:
            # It was submitted before; what happened since then is in its log.
            await self._read()
        self._repairing = asyncio.create_task(self._keep_repairing())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening."""
        self._remove_listener()
        if self._repairing is not None:
            self._repairing.cancel()
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    @property
    def has_next(self) -> bool:
        """Whether ``next`` returns at once."""
        return not self._fresh.empty()

    async def next(self) -> LogEntry:
        """The next entry that changed something; waits for it."""
        return await self._fresh.get()

    async def _listen(self) -> None:
        self._remove_listener = self._transport.add_reconnect_listener(self._repair_wanted.set)
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
            self._repair_wanted.set()
            return
        self._take(Stored(delivery.subject, delivery.data, position, 0.0))

    def _take(self, stored: Stored) -> None:
        self._last_on[_kind(stored.subject)] = stored.position
        news = fold_in(self.log, stored)
        if news is not None and stored.position > self._after:
            self._fresh.put_nowait(news)

    async def _read(self) -> None:
        self._behind = True
        async for stored in self._store.stored(self.log.task_id, after=self.log.position):
            self._take(stored)
        self._behind = self.log.position < self._heard

    async def _keep_repairing(self) -> None:
        while not self.log.ended:
            try:
                await asyncio.wait_for(self._repair_wanted.wait(), SILENCE_SECONDS)
            except TimeoutError:
                logger.debug("task %s: silence, reading its log", self.log.task_id)
            self._repair_wanted.clear()
            try:
                await self._read()
                pause = STALE_SECONDS
            except DragomanError as error:
                logger.warning("the log of task %s waits: %s", self.log.task_id, error)
                pause = RETRY_SECONDS
            if self._behind:
                # Another node of a cluster may answer before it has what was heard.
                await asyncio.sleep(pause)
                self._repair_wanted.set()


def _kind(subject: str) -> str:
    return subject.rpartition(".")[2]
