"""Stores what a worker has to say, through every outage, exactly once.

Spec: spec/durable.md, work. An answer of the server may be lost although it stored the entry; the
log then tells whether a refused write is our own, stored before, or somebody else's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.errors import (
    BusUnavailable,
    DragomanError,
    RequestTimeout,
    RevisionConflict,
    StreamFull,
)
from dragoman_bus.protocol.messages import Envelope
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.streams import Record

__all__ = ["patiently", "persist"]

logger = logging.getLogger("dragoman.service")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
STARTING_SECONDS = 30.0

Value = TypeVar("Value")


async def persist(
    store: LogStore, task_id: str, records: list[Record], message: Envelope
) -> int | None:
    """Store ``records``, the first of which holds ``message``; the position of the last one.

    ``None`` when the server refuses them because the spine holds somebody else's entry.

    Raises:
        BusUnavailable: ``PERMISSION_DENIED``, ``NOT_CONFIGURED`` for half a minute, or the
            connection was closed: waiting does not help.
        PayloadTooLarge: a record is larger than the server accepts.
    """
    try:
        return await patiently(lambda: store.streams.append(LOG_STREAM, *records), task_id)
    except RevisionConflict:
        expect = records[0].expect
        spine = 0 if expect is None else expect.position
        return await patiently(lambda: _stored_before(store, task_id, message, spine), task_id)


async def patiently(work: Callable[[], Awaitable[Value]], task_id: str) -> Value:
    """Do ``work`` again until the bus lets it succeed.

    Raises:
        BusUnavailable: as ``persist``.
    """
    pause, started = FIRST_PAUSE_SECONDS, time.monotonic()
    while True:
        try:
            return await work()
        except (BusUnavailable, RequestTimeout, StreamFull) as error:
            if _is_hopeless(error, time.monotonic() - started):
                raise
            logger.warning("task %s: the log waits: %s", task_id, error)
        await asyncio.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _is_hopeless(error: DragomanError, seconds: float) -> bool:
    if error.code == "NOT_CONFIGURED":
        # A task came out of a queue, so there is a log; a node that starts may not know it yet.
        return seconds > STARTING_SECONDS
    return error.code == "PERMISSION_DENIED" or not error.retryable


async def _stored_before(
    store: LogStore, task_id: str, message: Envelope, spine: int
) -> int | None:
    """The position of ``message`` if it is the last entry of the spine, or an update before it.

    The spine has an entry above ``spine``, perhaps this one: without it nothing is known.
    """
    entries = await seen(
        lambda: store.entries(task_id),
        lambda entries: any(entry.kind == "state" and entry.position > spine for entry in entries),
    )
    for entry in reversed(entries):
        stored = entry.message
        if (stored.id, stored.source) == (message.id, message.source):
            return entry.position if type(stored) is type(message) else None
        if entry.kind == "state":
            return None
    return None
