"""Ends tasks whose time is over: at their deadline, or when a canceled worker does not stop.

Spec: spec/durable.md, DUR-32, DUR-37. The schedules are the server's, so they come due whether or
not a supervisor was running.
"""

from __future__ import annotations

import logging
import time

from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending, canceled
from dragoman_bus.durable.layout import TIMER_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.subjects import due_subject
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.supervisor.intake import UNKNOWN_DELIVERIES, UNKNOWN_SECONDS, Later
from dragoman_bus.transports.streams import Pulled

__all__ = ["Timers"]

logger = logging.getLogger("dragoman.supervisor")

WORKER_FIRST_SECONDS = 2.0
EARLY_SECONDS = 60.0


class Timers:
    """Deals with schedules that came due.

    Args:
        store: The logs.
        sender: This supervisor.
    """

    def __init__(self, store: LogStore, sender: Sender) -> None:
        self._store = store
        self._sender = sender

    async def handle(self, pulled: Pulled) -> None:
        """Judge the task of one schedule.

        Raises:
            Later: its worker is to end it first, since it knows more; or it is not time yet.
        """
        task_id = pulled.subject.rsplit(".", 1)[-1]
        log = await close_task(
            self._store, self._sender, task_id, lambda log: self._judge(log, pulled.delivery)
        )
        if log.ended:
            await self._forget(task_id)
        if log.submission is None and pulled.delivery < UNKNOWN_DELIVERIES:
            # The node that was read from may be behind (DUR-57), or nobody has submitted it.
            raise Later(UNKNOWN_SECONDS)
        if log.ended or log.submission is None or log.deadline is None:
            return
        if self._overdue(log):
            raise Later(WORKER_FIRST_SECONDS)
        # It came too early: another submission under this id wanted another deadline, or the
        # clocks differ. The log's deadline is the one that counts.
        raise Later(min(EARLY_SECONDS, max(0.1, log.deadline - time.time())))

    async def _forget(self, task_id: str) -> None:
        """Delete what schedules have delivered, which would stay for as long as logs do."""
        try:
            await self._store.streams.purge(TIMER_STREAM, due_subject(task_id))
        except DragomanError as error:
            logger.info("what came due for task %s stays for a while: %s", task_id, error)

    def _judge(self, log: LogFold, delivery: int) -> Ending | None:
        if log.cancel is not None:
            return canceled(log.cancel)
        if not self._overdue(log) or (log.worker and delivery == 1):
            return None
        words = "the deadline passed" if log.attempts else "the deadline passed in the queue"
        return Ending(
            TaskState.FAILED,
            error=error_object(
                "DEADLINE_EXCEEDED",
                words,
                side_effects="possible" if log.attempts else "none",
            ),
        )

    @staticmethod
    def _overdue(log: LogFold) -> bool:
        # The server's schedules have whole seconds.
        return log.deadline is not None and time.time() >= log.deadline - 1.0
