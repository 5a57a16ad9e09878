"""Ends tasks whose time is over: at their deadline, or when a canceled worker does not stop.

Spec: spec/durable.md, DUR-32, DUR-37. The schedules are the server's, so they come due whether or
not a supervisor was running.
"""

from __future__ import annotations

import time

from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.supervisor.controls import canceled
from dragoman_bus.supervisor.intake import Later
from dragoman_bus.transports.streams import Pulled

__all__ = ["Timers"]

WORKER_FIRST_SECONDS = 2.0


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
            Later: its worker is to end it first, since it knows more.
        """
        task_id = pulled.subject.rsplit(".", 1)[-1]
        log = await close_task(
            self._store, self._sender, task_id, lambda log: self._judge(log, pulled.delivery)
        )
        if not log.ended and log.submission is not None and self._overdue(log):
            raise Later(WORKER_FIRST_SECONDS)

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
