"""Ends a task from outside its worker, which is fenced off first.

Spec: spec/durable.md, DUR-36, DUR-84. A decision of somebody else that came in between makes the
server refuse this one; then the log is read and judged anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from dragoman_bus.durable.claiming import claim, know
from dragoman_bus.durable.ending import Ending, above, ending_records
from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import RevisionConflict
from dragoman_bus.protocol.messages import TaskCancel, TaskFinal
from dragoman_bus.protocol.payloads import CancelData
from dragoman_bus.protocol.tasklog import LogFold

__all__ = ["children_to_cancel", "close_task", "open_children"]

MAXIMUM_IN_BATCH = 500
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 2.0


async def close_task(
    store: LogStore,
    sender: Sender,
    task_id: str,
    judge: Callable[[LogFold], Ending | None],
) -> LogFold:
    """End a task when ``judge`` says how, after looking at its log; the log as it is then.

    ``judge`` is asked again whenever the log has changed in between; it is not asked about an
    ended or unknown task. ``None`` leaves the task as it is.

    Raises:
        BusUnavailable, RequestTimeout, StreamFull, RevisionConflict: try again later.
    """
    log, pause = LogFold(task_id), FIRST_PAUSE_SECONDS
    while True:
        await store.read(task_id, into=log)
        if log.submission is None or log.ended:
            return log
        ending = judge(log)
        if ending is None:
            return log
        try:
            if await _hold(store, sender, log, ending):
                await _end_held(store, sender, log, ending)
        except RevisionConflict:
            if pause > LONGEST_PAUSE_SECONDS:
                raise
            # Somebody else decides, whom this one must not be in the way of for ever; or the node
            # that was read from is behind.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause *= 2


async def _end_held(store: LogStore, sender: Sender, log: LogFold, ending: Ending) -> None:
    """Store the end of a task that nobody else holds.

    Raises:
        RevisionConflict: somebody has decided about the task since ``log`` was read.
    """
    records = ending_records(
        log,
        ending,
        ending.final(log, sender),
        sender,
        open_children=await children_to_cancel(store, sender, log),
        max_payload=store.streams.max_payload,
    )
    await store.streams.append(LOG_STREAM, *records)


async def _hold(store: LogStore, sender: Sender, log: LogFold, ending: Ending) -> bool:
    """Claim a task that a worker holds, which can write nothing more then; whether it is ours."""
    if not log.worker:
        return True
    entry = claim(log, sender, error=ending.error)
    expect = LogStore.on_spine(log.task_id, log.spine)
    position = await store.append(log.task_id, "state", entry, expect=expect)
    return await know(store, log, position, entry)


async def children_to_cancel(store: LogStore, sender: Sender, log: LogFold) -> list[str]:
    """The open children whose cancels go with the end; those of many more are stored before.

    A batch holds a bounded number of messages, and a task has to end whatever it delegated.
    """
    children = await open_children(store, log)
    for child in children[MAXIMUM_IN_BATCH:]:
        wish = sender.wrap(TaskCancel, CancelData(task_id=child, reason=above(log.task_id)))
        await store.append(child, "control", wish)
    return children[:MAXIMUM_IN_BATCH]


async def open_children(store: LogStore, log: LogFold) -> list[str]:
    """The delegated tasks of ``log`` that have not ended."""
    states = await store.states(log.children)
    return [
        child
        for child in log.children
        if child not in states or not isinstance(states[child].message, TaskFinal)
    ]
