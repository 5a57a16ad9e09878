"""Makes room in the log before it is full: the logs of tasks that ended long ago go first.

Spec: spec/durable.md, DUR-61. A full log takes no ends either: nothing would end until its oldest
entries expire. What has not ended is never deleted, nor what a task above may still ask for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from msgspec import UnsetType

from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import entry_of
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.messages import TaskFinal, TaskSubmit
from dragoman_bus.protocol.payloads import SubmitData
from dragoman_bus.protocol.subjects import log_subject
from dragoman_bus.transports.streams import Stored, Streams

__all__ = ["LogRoom"]

logger = logging.getLogger("dragoman.supervisor")

INTERVAL_SECONDS = 10.0
FULL, ENOUGH = 0.8, 0.7
"""The part of its bytes at which the log is swept, and down to which."""
YOUNGEST_SECONDS = 60.0
PAGE = 200


class LogRoom:
    """Watches how full the log is.

    Args:
        streams: Where the log is.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def run(self) -> None:
        """Watch for ever; cancel it to stop."""
        while True:
            try:
                await self.sweep()
            except DragomanError as error:
                logger.warning("the log was not swept: %s", error)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def sweep(self) -> int:
        """Delete old logs if the log is nearly full; how many."""
        if not await self._is_above(FULL):
            return 0
        deleted, after = 0, 0
        while await self._is_above(ENOUGH):
            page = await self._streams.read(
                LOG_STREAM, log_subject("*", "submit"), after=after, limit=PAGE
            )
            for task_id in await self._ended_long_ago(page.messages):
                await self._streams.purge(LOG_STREAM, log_subject(task_id))
                deleted += 1
            if not page.more or not page.messages:
                break
            after = page.messages[-1].position
        logger.warning("the log is nearly full: the logs of %d ended tasks were deleted", deleted)
        return deleted

    async def _is_above(self, part: float) -> bool:
        state = await self._streams.stream_state(LOG_STREAM)
        return (
            state is not None
            and state.maximum_bytes > 0
            and state.bytes > part * state.maximum_bytes
        )

    async def _ended_long_ago(self, submissions: Iterable[Stored]) -> list[str]:
        """The tasks that have ended, and whose root has."""
        roots = {data.task_id: _root(data) for data in map(_data, submissions) if data}
        ended = await self._ends({*roots, *roots.values()})
        limit = time.time() - YOUNGEST_SECONDS
        return [
            task_id
            for task_id, root in roots.items()
            if ended.get(task_id, limit) < limit and ended.get(root, 0.0) < limit
        ]

    async def _ends(self, task_ids: Iterable[str]) -> dict[str, float]:
        """When tasks ended; infinity for those that have not, nothing for those without a log."""
        kinds = ("submit", "state")
        subjects = [log_subject(task_id, kind) for task_id in task_ids for kind in kinds]
        ended: dict[str, float] = {}
        # In order of position: the end of a task comes behind its submission.
        for stored in await self._streams.last(LOG_STREAM, *subjects) if subjects else []:
            entry = entry_of(stored)
            is_end = entry is not None and isinstance(entry.message, TaskFinal)
            ended[stored.subject.split(".")[3]] = stored.time if is_end else float("inf")
        return ended


def _data(stored: Stored) -> SubmitData | None:
    entry = entry_of(stored)
    message = None if entry is None else entry.message
    return message.data if isinstance(message, TaskSubmit) else None


def _root(data: SubmitData) -> str:
    return data.task_id if isinstance(data.lineage, UnsetType) else data.lineage.root_task_id
