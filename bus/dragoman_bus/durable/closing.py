"""Ends a task from outside its worker: whoever does so names the last entry it has read.

Spec: spec/durable.md, DUR-36. An entry that came in between makes the server refuse the end; then
the log is read and judged anew.
"""

from __future__ import annotations

from collections.abc import Callable

from dragoman_bus.durable.ending import Ending, ending_records
from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import RevisionConflict
from dragoman_bus.protocol.messages import TaskFinal
from dragoman_bus.protocol.tasklog import LogFold

__all__ = ["close_task", "open_children"]


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
        BusUnavailable, RequestTimeout, StreamFull: try again later.
    """
    log = LogFold(task_id)
    while True:
        await store.read(task_id, into=log)
        if log.submission is None or log.ended:
            return log
        ending = judge(log)
        if ending is None:
            return log
        records = ending_records(
            log,
            ending,
            ending.final(log, sender),
            sender,
            expect=LogStore.on_log(task_id, log.position),
            open_children=await open_children(store, log),
            max_payload=store.streams.max_payload,
        )
        try:
            await store.streams.append(LOG_STREAM, *records)
        except RevisionConflict:
            continue


async def open_children(store: LogStore, log: LogFold) -> list[str]:
    """The delegated tasks of ``log`` that have not ended."""
    states = await store.states(log.children)
    return [
        child
        for child in log.children
        if child not in states or not isinstance(states[child].message, TaskFinal)
    ]
