"""Lets the ordered tasks of a context run one after the other.

Spec: spec/durable.md, order within a context.
"""

from __future__ import annotations

from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.durable.submission import enqueue
from dragoman_bus.protocol.messages import TaskFinal
from dragoman_bus.protocol.subjects import turn_subject
from dragoman_bus.transports.streams import Pulled

__all__ = ["Turns"]

PAGE = 500


class Turns:
    """Deals with what is submitted to, and ends in, contexts with an order.

    Args:
        store: The logs.
    """

    def __init__(self, store: LogStore) -> None:
        self._store = store

    async def handle(self, pulled: Pulled) -> None:
        """Queue the first task of the context that has not ended (DUR-42)."""
        context = pulled.subject.split(".")[3]
        for task_id in await self._waiting(context):
            log = await self._store.read(task_id)
            if log.submission is None or log.ended:
                continue
            if log.spine == 0:
                await enqueue(self._store, log.submission)
            return

    async def _waiting(self, context: str) -> list[str]:
        """The context's tasks that have not ended, in order."""
        found: dict[str, None] = {}
        after = 0
        while True:
            page = await self._store.streams.read(
                LOG_STREAM, turn_subject(context), after=after, limit=PAGE
            )
            found |= dict.fromkeys(message.subject.split(".")[4] for message in page.messages)
            if not page.more or not page.messages:
                break
            after = page.messages[-1].position
        states = await self._store.states(found)
        return [
            task_id
            for task_id in found
            if task_id not in states or not isinstance(states[task_id].message, TaskFinal)
        ]
