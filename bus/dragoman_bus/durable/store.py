"""Reads and writes the logs of durable tasks.

Spec: spec/durable.md. Every write names what it knows of the log (an ``Expectation``), and the
server refuses it when it knows too little; what to do then is for the writer to decide.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable

from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.errors import ProtocolError, RequestTimeout
from dragoman_bus.protocol.messages import Envelope, TaskFinal, TaskStatusUpdate
from dragoman_bus.protocol.subjects import log_subject, parse_log_subject
from dragoman_bus.protocol.tasklog import LogEntry, LogFold
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.streams import Expectation, Record, Stored, Streams

__all__ = ["LogStore", "entry_of", "fold_in"]

logger = logging.getLogger("dragoman.durable")

PAGE = 500


def entry_of(stored: Stored) -> LogEntry | None:
    """The entry in a stored message; ``None`` for what is no valid entry, which is logged."""
    place = parse_log_subject(stored.subject)
    if place is None:
        return None
    try:
        return LogEntry(place[1], stored.position, decode(stored.data))
    except ProtocolError as error:
        logger.warning("entry %d of task %s is not valid: %s", stored.position, place[0], error)
        return None


def fold_in(fold: LogFold, stored: Stored) -> LogEntry | None:
    """Fold one stored message in; its entry, if it was news."""
    entry = entry_of(stored)
    if entry is None:
        place = parse_log_subject(stored.subject)
        fold.skip(place[1] if place else "", stored.position)
        return None
    try:
        return entry if fold.apply(entry) else None
    except ProtocolError as error:
        logger.warning("task %s: entry %d: %s", fold.task_id, entry.position, error)
        return None


class LogStore:
    """The logs of all tasks.

    Args:
        streams: Where they are stored.
    """

    def __init__(self, streams: Streams) -> None:
        self.streams = streams

    async def read(self, task_id: str, *, into: LogFold | None = None) -> LogFold:
        """The fold of a task's whole log; empty (no submission) for an unknown task.

        With ``into``, only what follows is read and folded into it.
        """
        fold = LogFold(task_id) if into is None else into
        async for stored in self.stored(task_id, after=fold.position):
            fold_in(fold, stored)
        return fold

    async def find(self, log: LogFold) -> LogFold:
        """Fold into ``log`` what follows; of a task that somebody expects to be there."""
        return await seen(
            lambda: self.read(log.task_id, into=log), lambda log: log.submission is not None
        )

    async def read_through(self, log: LogFold, position: int) -> None:
        """Fold into ``log`` what follows, at least through a position that is known to be stored.

        Raises:
            RequestTimeout: the node that is read from does not hear of it.
        """
        await seen(lambda: self.read(log.task_id, into=log), lambda log: log.position >= position)
        if log.position < position:
            raise RequestTimeout(f"the log lacks entry {position} yet", task_id=log.task_id)

    async def entries(self, task_id: str, *, after: int = 0) -> list[LogEntry]:
        """The valid entries of a task's log above a position."""
        found = [entry_of(stored) async for stored in self.stored(task_id, after=after)]
        return [entry for entry in found if entry is not None]

    async def stored(self, task_id: str, *, after: int = 0) -> AsyncIterator[Stored]:
        """All that is stored in a task's log above a position, valid or not."""
        while True:
            page = await self.streams.read(
                LOG_STREAM, log_subject(task_id), after=after, limit=PAGE
            )
            for message in page.messages:
                yield message
            if not page.more or not page.messages:
                return
            after = page.messages[-1].position

    async def states(self, task_ids: Iterable[str]) -> dict[str, LogEntry]:
        """The last entry of the spine of each task that has one."""
        subjects = [log_subject(task_id, "state") for task_id in task_ids]
        if not subjects:
            return {}
        found: dict[str, LogEntry] = {}
        for stored in await self.streams.last(LOG_STREAM, *subjects):
            place = parse_log_subject(stored.subject)
            entry = entry_of(stored)
            if place is None:
                continue
            if entry is None or not isinstance(entry.message, TaskStatusUpdate | TaskFinal):
                # Somebody wrote what is no entry: what was there before it counts.
                entry = await self._last_decision(place[0])
            if entry is not None:
                found[place[0]] = entry
        return found

    async def _last_decision(self, task_id: str) -> LogEntry | None:
        for entry in reversed(await self.entries(task_id)):
            if entry.kind == "state" and isinstance(entry.message, TaskStatusUpdate | TaskFinal):
                return entry
        return None

    async def append(
        self, task_id: str, kind: str, message: Envelope, *, expect: Expectation | None = None
    ) -> int:
        """Store one entry; its position.

        Raises:
            ProtocolError: it is not valid: every reader would skip it.
            RevisionConflict: the expectation does not hold.
            StreamFull: the log takes nothing more.
        """
        document = encode(message)
        decode(document)
        record = Record(subject=log_subject(task_id, kind), data=document, expect=expect)
        return await self.streams.append(LOG_STREAM, record)

    @staticmethod
    def on_spine(task_id: str, position: int) -> Expectation:
        """That ``position`` is the last of the task's spine."""
        return Expectation(log_subject(task_id, "state"), position)

    @staticmethod
    def on_log(task_id: str, position: int) -> Expectation:
        """That ``position`` is the last entry of the task's log, of any kind.

        Holds against what is stored, and not against what is on its way: in a replicated stream
        the server compares messages on their way only by the very same expectation.
        """
        return Expectation(log_subject(task_id), position)
