"""Lets the ordered tasks of a context run one after the other.

Spec: spec/durable.md, order within a context.
"""

from __future__ import annotations

from collections import Counter

from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.durable.submission import enqueue
from dragoman_bus.protocol.subjects import turn_subject
from dragoman_bus.supervisor.intake import STALE_SECONDS, UNKNOWN_DELIVERIES, Later
from dragoman_bus.transports.streams import Pulled, Stored

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
        """Queue the first task of the context that has not ended (DUR-42).

        Raises:
            Later: the node that was read from does not have yet what this message tells.
        """
        context = pulled.subject.split(".")[3]
        turns = await self._turns(context)
        if not turns or turns[-1].position < pulled.position:
            raise Later(STALE_SECONDS)
        # One is stored with the submission, another with the end (DUR-49).
        counted = Counter(message.subject.split(".")[4] for message in turns)
        for task_id in [task_id for task_id, count in counted.items() if count == 1]:
            log = await self._store.read(task_id)
            if log.submission is None and pulled.delivery < UNKNOWN_DELIVERIES:
                raise Later(STALE_SECONDS)
            if log.submission is None or log.ended:
                continue
            if log.spine == 0:
                await enqueue(self._store, log.submission)
            return

    async def _turns(self, context: str) -> list[Stored]:
        """Everything on the context's subjects, in order."""
        found: list[Stored] = []
        while True:
            after = found[-1].position if found else 0
            page = await self._store.streams.read(
                LOG_STREAM, turn_subject(context), after=after, limit=PAGE
            )
            found += page.messages
            if not page.more or not page.messages:
                return found
