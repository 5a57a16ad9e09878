"""Order in a stream that may lose, repeat and reorder: gaps found, duplicates dropped, end known.

Spec: spec/operations.md, streaming. The caller feeds what arrives and gets what can be used; when
``missing`` is true it asks for a snapshot (task.subscribe) and feeds that as well.
"""

from __future__ import annotations

from dragoman_bus.protocol.lifecycle import is_terminal
from dragoman_bus.protocol.messages import TaskFinal, TaskSnapshot, TaskUpdate

__all__ = ["StreamSequencer"]


class StreamSequencer:
    """Puts the messages of one task in order.

    Args:
        buffer_limit: How many messages to hold beyond a gap; more are dropped, since the snapshot
            that closes the gap brings their content anyway.
    """

    def __init__(self, buffer_limit: int = 256) -> None:
        self.attempt = 1
        self.sequence = 0
        self.ended = False
        self.duplicates = 0
        self.dropped = 0
        self._limit = buffer_limit
        self._ahead: dict[int, TaskUpdate] = {}

    @property
    def missing(self) -> bool:
        """Whether something before the newest message has not arrived."""
        return bool(self._ahead)

    def feed(self, message: TaskUpdate) -> list[TaskUpdate]:
        """The messages that can be used now, in order; empty for duplicates and early ones."""
        attempt, sequence = message.data.attempt, message.data.sequence
        if self.ended or attempt < self.attempt:
            self.duplicates += 1
            return []
        if attempt > self.attempt:
            self._restart(attempt)
        if isinstance(message, TaskSnapshot):
            return self._from_snapshot(message)
        if sequence <= self.sequence or sequence in self._ahead:
            self.duplicates += 1
            return []
        if sequence > self.sequence + 1:
            self._hold(message)
            return []
        return self._use([message])

    def _restart(self, attempt: int) -> None:
        # A higher attempt is a new worker; what the old one still had in flight is void.
        self.attempt, self.sequence = attempt, 0
        self._ahead.clear()

    def _hold(self, message: TaskUpdate) -> None:
        if len(self._ahead) < self._limit:
            self._ahead[message.data.sequence] = message
        else:
            self.dropped += 1

    def _from_snapshot(self, message: TaskSnapshot) -> list[TaskUpdate]:
        sequence = message.data.sequence
        if sequence <= self.sequence:
            return []
        self._ahead = {at: held for at, held in self._ahead.items() if at > sequence}
        return self._use([message])

    def _use(self, ready: list[TaskUpdate]) -> list[TaskUpdate]:
        self.sequence = ready[-1].data.sequence
        while (following := self._ahead.pop(self.sequence + 1, None)) is not None:
            self.sequence += 1
            ready.append(following)
        last = ready[-1]
        # A terminal snapshot holds all that the final would have told (spec/operations.md).
        self.ended = isinstance(last, TaskFinal) or (
            isinstance(last, TaskSnapshot) and is_terminal(last.data.task.status.state)
        )
        return ready
