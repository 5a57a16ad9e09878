"""Takes the message of a task that was canceled in its queue out of it, which frees its place.

Spec: spec/durable.md, DUR-89. The log does not know where in the queue the message is, but when it
was put there: it is looked for from that time on, and not for long. What is not found goes at the
task's deadline.
"""

from __future__ import annotations

import logging

from dragoman_bus.durable.layout import LOG_STREAM, QUEUE_STREAM
from dragoman_bus.durable.submission import queue_of
from dragoman_bus.protocol.codec import outline
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.payloads import SubmitData
from dragoman_bus.protocol.subjects import log_subject
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.streams import Streams

__all__ = ["vacate"]

logger = logging.getLogger("dragoman.supervisor")

NEAR_SECONDS, FAR_SECONDS = 0.005, 0.2
"""The queue may have a message before the log has it, or by another node's clock."""
PAGE, PAGES = 100, 20


async def vacate(streams: Streams, data: SubmitData) -> None:
    """Delete the queue message of a task that has ended; nothing is raised when that fails."""
    try:
        # Nearly always it is one of the first; to look further costs more.
        position = await seen(lambda: _find(streams, data, NEAR_SECONDS, 1), bool)
        position = position or await _find(streams, data, FAR_SECONDS, PAGES)
        if position:
            await streams.delete(QUEUE_STREAM, position)
    except DragomanError as error:
        logger.info("task %s keeps its place in the queue: %s", data.task_id, error)


async def _find(streams: Streams, data: SubmitData, earlier: float, pages: int) -> int:
    """The position of the task's message; 0 when it is not found.

    Args:
        streams: Where the queue is.
        data: The task.
        earlier: How many seconds before the submission the search begins.
        pages: How far it goes.
    """
    submitted = await streams.last(LOG_STREAM, log_subject(data.task_id, "submit"))
    if not submitted:
        return 0
    after, since = 0, submitted[0].time - earlier
    for number in range(pages):
        page = await streams.read(
            QUEUE_STREAM,
            queue_of(data),
            after=after,
            since=None if number else since,
            limit=PAGE,
        )
        for message in page.messages:
            if _is_of(message.data, data.task_id):
                return message.position
        if not page.more or not page.messages:
            break
        after = page.messages[-1].position
    return 0


def _is_of(document: bytes, task_id: str) -> bool:
    return task_id.encode() in document and outline(document).task_id == task_id
