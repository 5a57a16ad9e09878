"""One task's stream as the caller assembles it: order, gaps, flow and the fold, without I/O.

Spec: spec/operations.md, streaming. The transport side (task.py) feeds messages and asks what to
send; nothing here waits.
"""

from __future__ import annotations

from collections import deque

from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.a2a import Artifact, TaskArtifactUpdateEvent, TaskStatusUpdateEvent
from dragoman_bus.protocol.flow import ReadWindow
from dragoman_bus.protocol.fold import TaskFold
from dragoman_bus.protocol.messages import (
    TaskArtifact,
    TaskFinal,
    TaskSnapshot,
    TaskUpdate,
)
from dragoman_bus.protocol.sequencer import StreamSequencer

__all__ = ["TaskStream", "Update"]

Update = TaskStatusUpdateEvent | TaskArtifactUpdateEvent


class TaskStream:
    """Turns what arrives into a gap-free sequence of A2A updates and a folded task."""

    def __init__(self, task_id: str, context_id: str | None, window: int) -> None:
        self.fold = TaskFold(task_id, context_id)
        self.keep_alive: float | None = None
        self._sequencer = StreamSequencer(buffer_limit=window)
        self._window = ReadWindow(window)
        self._unread: deque[tuple[int, Update]] = deque()

    @property
    def missing(self) -> bool:
        """Whether a gap waits for a snapshot."""
        return self._sequencer.missing

    @property
    def sequence(self) -> int:
        """The last sequence in order."""
        return self._sequencer.sequence

    @property
    def has_unread(self) -> bool:
        """Whether ``read`` returns something."""
        return bool(self._unread)

    def feed(self, message: TaskUpdate, *, keep: bool) -> None:
        """Take a message; ``keep`` its updates for ``read``, or only fold it.

        Raises:
            FlowExceeded: the agent ran further ahead than allowed.
            ProtocolError: the log contradicts the lifecycle.
        """
        data = message.data
        if isinstance(message, TaskSnapshot):
            self._window.credit(data.sequence)
        elif data.attempt == self._sequencer.attempt:
            self._window.check(data.sequence, self.fold.task_id)
        for ready in self._sequencer.feed(message):
            if keep:
                self._unread.extend(
                    (ready.data.sequence, update) for update in self._updates(ready)
                )
            self.fold.apply(ready)
            if not isinstance(ready, TaskFinal):
                alive = ready.data.keep_alive_seconds
                self.keep_alive = None if isinstance(alive, UnsetType) else alive

    def read(self) -> tuple[Update, int | None]:
        """The next update, and the ``through`` of a task.flow to send now, if any."""
        sequence, update = self._unread.popleft()
        return update, self._window.read(sequence)

    def acknowledge(self) -> int | None:
        """The same for a caller that reads nothing but the result."""
        return self._window.read(self._sequencer.sequence)

    def discard_unread(self) -> None:
        """Forget unread updates; the fold has their content."""
        self._unread.clear()

    def _updates(self, message: TaskUpdate) -> list[Update]:
        if isinstance(message, TaskArtifact):
            return [message.data.artifact_update]
        if isinstance(message, TaskSnapshot):
            return [*self._missed(message), self._status_of(message)]
        if isinstance(message, TaskFinal):
            return [*self._replaced(message), message.data.status_update]
        return [message.data.status_update]

    def _missed(self, snapshot: TaskSnapshot) -> list[Update]:
        """What a snapshot holds beyond what was folded: chunk i of an artifact is its part i."""
        missed: list[Update] = []
        for artifact in snapshot.data.task.artifacts or ():
            known = self.fold.parts_of(artifact.artifact_id)
            # A final may have replaced what was streamed; then the whole artifact is news.
            grown = artifact.parts[: len(known)] == known
            fresh = artifact.parts[len(known) :] if grown else artifact.parts
            if fresh:
                missed.append(
                    self._artifact_update(
                        Artifact(artifact_id=artifact.artifact_id, parts=fresh),
                        append=grown and bool(known),
                    )
                )
        return missed

    def _replaced(self, final: TaskFinal) -> list[Update]:
        return [
            self._artifact_update(artifact, append=False, last=True)
            for artifact in final.data.artifacts or ()
        ]

    def _artifact_update(
        self, artifact: Artifact, *, append: bool, last: bool = False
    ) -> TaskArtifactUpdateEvent:
        return TaskArtifactUpdateEvent(
            task_id=self.fold.task_id,
            context_id=self.fold.context_id,
            artifact=artifact,
            append=append or UNSET,
            last_chunk=last or UNSET,
        )

    def _status_of(self, snapshot: TaskSnapshot) -> TaskStatusUpdateEvent:
        task = snapshot.data.task
        return TaskStatusUpdateEvent(
            task_id=task.id, context_id=task.context_id, status=task.status
        )
