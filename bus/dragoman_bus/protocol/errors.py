"""One tree of errors: every failure has a code, says whose it is, and what to do next.

::

    DragomanError
    ├── LocalError                 found on this side; nothing was sent, or nothing came back
    │   ├── ProtocolError          a message breaks the protocol (either direction)
    │   ├── InvalidInput           the input does not fit the skill's contract
    │   ├── NotConfigured          a setting, key, package or platform is missing
    │   ├── DeadlineExceeded       the deadline passed before the task ended
    │   ├── FlowExceeded           the agent sent more than the flow window allows
    │   └── TransportError
    │       ├── BusUnavailable     no server answers, or a needed feature is off
    │       ├── NoResponders       nobody serves the subject
    │       ├── RequestTimeout     somebody may serve it, and did not answer in time
    │       ├── PayloadTooLarge    larger than the server or the codec accepts
    │       ├── RevisionConflict   a compare-and-set lost
    │       └── StreamFull         a queue or a stream takes nothing more now
    └── RemoteError                reported by, or concluded about, the other side
        ├── AgentUnavailable       no agent serves this name or skill now
        ├── AgentLost              the agent died or went silent in the middle of a task
        ├── Overloaded             the agent has no free slot; retry after the time given
        ├── TaskFailed             the task ended in TASK_STATE_FAILED
        ├── TaskCanceled           the task ended in TASK_STATE_CANCELED
        └── TaskRejected           the agent refused the task; it never ran

Codes, their meaning and their defaults are data: ``errors.json`` (spec/errors.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dragoman_bus.protocol.error_registry import defaults_of

if TYPE_CHECKING:
    from dragoman_bus.protocol.receipts import Receipt, Usage

__all__ = [
    "AgentLost",
    "AgentUnavailable",
    "BusUnavailable",
    "DeadlineExceeded",
    "DragomanError",
    "FlowExceeded",
    "InvalidInput",
    "LocalError",
    "NoResponders",
    "NotConfigured",
    "Overloaded",
    "PayloadTooLarge",
    "ProtocolError",
    "RemoteError",
    "RequestTimeout",
    "RevisionConflict",
    "StreamFull",
    "TaskCanceled",
    "TaskFailed",
    "TaskRejected",
    "TransportError",
]


class DragomanError(Exception):
    """The root. Raise a subclass; catch this to catch everything Dragoman raises.

    Args:
        message: One sentence: what happened.
        code: A code of ``errors.json``; the class has a default.
        retryable: Whether the same request may succeed later; default from the registry.
        retry_after: Seconds to wait before a retry, when known.
        side_effects: ``none``, ``possible`` or ``committed``: what the failed work may have done.
        details: Members for programs, JSON-serialisable, without secrets.
        task_id: The task concerned, when there is one.
    """

    default_code: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        side_effects: str = "none",
        details: Mapping[str, Any] | None = None,
        task_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        known = defaults_of(self.code)
        self.retryable = known.retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.side_effects = side_effects
        self.details: Mapping[str, Any] = details or {}
        self.task_id = task_id

    @property
    def action(self) -> str:
        """What to do next, one sentence from the registry."""
        return defaults_of(self.code).action

    @property
    def advice(self) -> str:
        """``action``, unless the message says it already, and more exactly."""
        said = self.action[:16].lower() in self.message.lower()
        return "" if said or self.action.startswith(_SAID) else self.action

    def __str__(self) -> str:
        hint = f" {self.advice}" if self.advice else ""
        wait = "" if self.retry_after is None else f" Retry after {self.retry_after:g} s."
        return f"{self.code}: {self.message.rstrip('.')}.{hint}{wait}"


_SAID = "Do what the message says"


class LocalError(DragomanError):
    """Found on this side of the bus (spec/errors.md, "ours and theirs")."""


class RemoteError(DragomanError):
    """Reported by the other side, or concluded about it (spec/errors.md, "ours and theirs").

    Attributes:
        task_usage: What a task that ended so had used, where that was told.
        receipt: Who worked on it, where that was told.
    """

    task_usage: Usage | None = None
    receipt: Receipt | None = None


class ProtocolError(LocalError):
    """A message that breaks the protocol: malformed, wrong type, wrong version, too large."""

    default_code = "INVALID_MESSAGE"


class InvalidInput(LocalError):
    """The input does not fit the input schema of the skill's contract."""

    default_code = "INVALID_INPUT"


class NotConfigured(LocalError):
    """A setting, a key, an optional package or a platform feature is missing."""

    default_code = "NOT_CONFIGURED"


class DeadlineExceeded(LocalError):
    """The deadline passed before the task reached a terminal state."""

    default_code = "DEADLINE_EXCEEDED"


class FlowExceeded(LocalError):
    """The agent sent more messages than the flow window allows (spec/operations.md, flow)."""

    default_code = "FLOW_EXCEEDED"


class TransportError(LocalError):
    """The transport could not do what was asked."""

    default_code = "BUS_UNAVAILABLE"


class BusUnavailable(TransportError):
    """No server answers at the address, or a feature that is needed is off there."""


class NoResponders(TransportError):
    """Nobody is subscribed to the subject of a request; the server says so at once."""

    default_code = "AGENT_UNAVAILABLE"


class RequestTimeout(TransportError):
    """No answer to a request within its time."""

    default_code = "DEADLINE_EXCEEDED"


class PayloadTooLarge(TransportError):
    """The message is larger than the server or the codec accepts."""

    default_code = "PAYLOAD_TOO_LARGE"


class RevisionConflict(TransportError):
    """A compare-and-set found another revision than the expected one."""

    default_code = "REVISION_CONFLICT"


class StreamFull(TransportError):
    """A queue or a stream is full and refuses what is new (spec/durable.md, limits)."""

    default_code = "OVERLOADED"


class AgentUnavailable(RemoteError):
    """No agent serves this name or this skill now."""

    default_code = "AGENT_UNAVAILABLE"


class AgentLost(RemoteError):
    """The agent that ran the task died or went silent (spec/operations.md, keep-alive)."""

    default_code = "AGENT_LOST"


class Overloaded(RemoteError):
    """The agent has no free slot; nothing was started."""

    default_code = "OVERLOADED"


class TaskFailed(RemoteError):
    """The task ended in ``TASK_STATE_FAILED``; the code says why."""

    default_code = "SKILL_FAILED"


class TaskCanceled(RemoteError):
    """The task ended in ``TASK_STATE_CANCELED``."""

    default_code = "CANCELED"


class TaskRejected(RemoteError):
    """The agent refused the request before any work was done."""

    default_code = "INVALID_MESSAGE"
