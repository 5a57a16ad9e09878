"""Ends tasks whose queue message the server delivers no more.

Spec: spec/durable.md, DUR-72, DUR-90, DUR-91. The server tells by an advisory that a message was
delivered as often as its queue allows: every worker that got it died before it could claim the
task, or gave it back since the task belongs into another queue.
"""

from __future__ import annotations

import logging

import msgspec

from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.layout import QUEUE_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.durable.submission import queue_of
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import TaskSubmit
from dragoman_bus.protocol.payloads import ErrorObject, SubmitData
from dragoman_bus.protocol.subjects import PREFIX, is_token
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.supervisor.intake import UNKNOWN_DELIVERIES, UNKNOWN_SECONDS, Later
from dragoman_bus.transports.streams import Pulled

__all__ = ["Advisories"]

logger = logging.getLogger("dragoman.supervisor")


class _Advisory(msgspec.Struct):
    stream_seq: int = 0
    deliveries: int = 0
    reason: str = ""


class Advisories:
    """Deals with the advisories of the queues.

    Args:
        store: The logs.
        sender: This supervisor.
    """

    def __init__(self, store: LogStore, sender: Sender) -> None:
        self._store = store
        self._sender = sender

    async def handle(self, pulled: Pulled) -> None:
        """End the task of one advisory, unless it has ended.

        Raises:
            Later: the node that was read from may be behind (DUR-57).
        """
        try:
            advisory = msgspec.json.decode(pulled.data, type=_Advisory)
        except msgspec.DecodeError as error:
            logger.warning("%s: not an advisory: %s", pulled.subject, error)
            return
        found = await self._message(advisory.stream_seq)
        # A terminated message is gone; whoever terminated it says which task it was (DUR-63).
        task_id = found[0].task_id if found else advisory.reason
        if not is_token(task_id):
            # Mostly one whose task reached its deadline at work: the server deletes it then.
            logger.info(
                "a queue message is gone after %d deliveries: %s",
                advisory.deliveries,
                advisory.reason or pulled.subject,
            )
            return
        why = _error(advisory.deliveries, *found) if found else _TERMINATED

        def judge(log: LogFold) -> Ending | None:
            # One that is astray says nothing about a task that found its worker elsewhere.
            is_astray = why.code == "UNKNOWN_SKILL"
            return None if is_astray and log.attempts else Ending(TaskState.FAILED, error=why)

        log = await close_task(self._store, self._sender, task_id, judge)
        if log.submission is None and pulled.delivery < UNKNOWN_DELIVERIES:
            raise Later(UNKNOWN_SECONDS)
        if found:
            # Nobody is given it any more, and it would keep its place.
            await self._store.streams.delete(QUEUE_STREAM, advisory.stream_seq)

    async def _message(self, position: int) -> tuple[SubmitData, str] | None:
        """What a queue message submits, and the subject it was queued on."""
        page = await self._store.streams.read(
            QUEUE_STREAM, f"{PREFIX}.task.>", after=position - 1, limit=1
        )
        if not page.messages or page.messages[0].position != position:
            return None
        try:
            message = decode(page.messages[0].data)
        except ProtocolError:
            return None
        return (message.data, page.messages[0].subject) if isinstance(message, TaskSubmit) else None


_TERMINATED = error_object(
    "AGENT_LOST", "its queue message was terminated", side_effects="possible"
)


def _error(deliveries: int, data: SubmitData, subject: str) -> ErrorObject:
    """Why a message that was delivered so often did not lead to the end of its task."""
    if subject == queue_of(data):
        words = f"{deliveries} deliveries, and no worker lived to end the task"
        return error_object("AGENT_LOST", words, side_effects="possible")
    words = f"it was queued on {subject}, where nobody has the skill {data.skill!r}"
    return error_object("UNKNOWN_SKILL", f"{words}: {deliveries} deliveries")
