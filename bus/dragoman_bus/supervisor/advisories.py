"""Ends tasks whose queue message the server delivers no more.

Spec: spec/durable.md, DUR-72. The server tells by an advisory that a message was delivered as often
as its queue allows: every worker that got it died before it could claim the task.
"""

from __future__ import annotations

import logging

import msgspec

from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.layout import QUEUE_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import TaskSubmit
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
        submission = await self._message(advisory.stream_seq)
        # A terminated message is gone; whoever terminated it says which task it was (DUR-63).
        task_id = submission.data.task_id if submission else advisory.reason
        if not is_token(task_id):
            # Mostly one whose task reached its deadline at work: the server deletes it then.
            logger.info(
                "a queue message is gone after %d deliveries: %s",
                advisory.deliveries,
                advisory.reason or pulled.subject,
            )
            return

        def judge(log: LogFold) -> Ending | None:
            words = "its queue message was terminated"
            if submission is not None:
                words = f"{advisory.deliveries} deliveries, and no worker lived to end the task"
            return Ending(
                TaskState.FAILED, error=error_object("AGENT_LOST", words, side_effects="possible")
            )

        log = await close_task(self._store, self._sender, task_id, judge)
        if log.submission is None and pulled.delivery < UNKNOWN_DELIVERIES:
            raise Later(UNKNOWN_SECONDS)

    async def _message(self, position: int) -> TaskSubmit | None:
        page = await self._store.streams.read(
            QUEUE_STREAM, f"{PREFIX}.task.>", after=position - 1, limit=1
        )
        if not page.messages or page.messages[0].position != position:
            return None
        try:
            message = decode(page.messages[0].data)
        except ProtocolError:
            return None
        return message if isinstance(message, TaskSubmit) else None
