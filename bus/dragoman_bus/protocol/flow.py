"""Flow control arithmetic: how far a sender may run ahead of its reader.

Spec: spec/operations.md, flow. One window counts messages of one task's stream; the final message
is never held back.
"""

from __future__ import annotations

from dragoman_bus.protocol.errors import FlowExceeded

__all__ = ["DEFAULT_WINDOW", "ReadWindow", "SendWindow"]

DEFAULT_WINDOW = 256


class SendWindow:
    """The agent's side. ``size`` None means that the caller asked for no flow control."""

    def __init__(self, size: int | None) -> None:
        self.size = size
        self.through = 0

    def may_send(self, sequence: int) -> bool:
        """Whether the message with this sequence may go out now."""
        return self.size is None or sequence <= self.through + self.size

    def acknowledge(self, through: int) -> bool:
        """Take a task.flow; whether it opened the window."""
        if through <= self.through:
            return False
        self.through = through
        return True


class ReadWindow:
    """The caller's side: when to tell the agent how far one has read."""

    def __init__(self, size: int = DEFAULT_WINDOW) -> None:
        self.size = size
        self.told = 0

    def read(self, sequence: int) -> int | None:
        """Say that ``sequence`` was read; the ``through`` to send now, if it is time to."""
        if sequence - self.told < max(1, self.size // 2):
            return None
        self.told = sequence
        return sequence

    def credit(self, sequence: int) -> None:
        """A snapshot at ``sequence`` counts as read: the agent continues from there."""
        self.told = max(self.told, sequence)

    def check(self, sequence: int, task_id: str) -> None:
        """Refuse a message beyond the window.

        Raises:
            FlowExceeded: the agent sent what it may not; buffering it would have no bound.
        """
        # The final message is exempt, hence one more than the window.
        if sequence > self.told + self.size + 1:
            raise FlowExceeded(
                f"message {sequence} arrived though only {self.told + self.size} are allowed",
                task_id=task_id,
            )
