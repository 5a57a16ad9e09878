"""The envelopes of protocol 1.0: one CloudEvents object per message type, with typed ``data``.

Spec: spec/model.md, envelope. The ``type`` attribute selects the class while decoding, in one
pass; attributes this version does not know are ignored (spec/versioning.md).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from dragoman_bus.protocol.a2a import Artifact, Label, Message, Timestamp, Uri
from dragoman_bus.protocol.durable import (
    ChildData,
    DeadLetterData,
    OutboxData,
    SettlementData,
    StepData,
)
from dragoman_bus.protocol.payloads import (
    AnnounceData,
    ArtifactData,
    CancelData,
    DrainData,
    ErrorData,
    EventData,
    FinalData,
    FlowData,
    GetData,
    LeaseData,
    ReplyData,
    SnapshotData,
    StatusData,
    StatusRequestData,
    SubmitData,
    SubscribeData,
)
from dragoman_bus.protocol.traces import TraceContext, parse_trace

__all__ = [
    "MESSAGE_TYPES",
    "TYPE_PREFIX",
    "AgentAnnounce",
    "AgentDrain",
    "AgentLease",
    "AgentStatus",
    "AnyMessage",
    "BusEvent",
    "Envelope",
    "ErrorMessage",
    "TaskArtifact",
    "TaskCancel",
    "TaskChild",
    "TaskDeadLetter",
    "TaskFinal",
    "TaskFlow",
    "TaskGet",
    "TaskOutbox",
    "TaskReply",
    "TaskSettlement",
    "TaskSnapshot",
    "TaskStatusUpdate",
    "TaskStep",
    "TaskSubmit",
    "TaskSubscribe",
    "TaskUpdate",
    "is_flat",
    "task_of",
    "trace_of",
    "type_of",
]

TYPE_PREFIX = "dev.dragoman."

_Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
_Source: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
_WireVersion: TypeAlias = Annotated[str, Meta(pattern=r"^1\.(0|[1-9][0-9]{0,3})$(?!\n)")]


class Envelope(Struct, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """The CloudEvents attributes that every message carries."""

    specversion: Literal["1.0"]
    id: _Id
    source: _Source
    time: Timestamp
    protocolversion: _WireVersion
    datacontenttype: Literal["application/json"] | UnsetType = UNSET
    dataschema: Uri | UnsetType = UNSET
    subject: Label | UnsetType = UNSET
    traceparent: Label | UnsetType = UNSET
    tracestate: Annotated[str, Meta(max_length=1024)] | UnsetType = UNSET


def is_flat(message: Envelope) -> bool:
    """Whether a message surely has no value of any depth in it: an input or output of texts."""
    contents: tuple[Message | Artifact, ...] | list[Artifact]
    if isinstance(message, TaskSubmit):
        contents = (message.data.message,)
    elif isinstance(message, TaskArtifact):
        contents = (message.data.artifact_update.artifact,)
    elif isinstance(message, TaskFinal) and message.data.error is UNSET:
        contents = message.data.artifacts or ()
    else:
        return False
    for content in contents:
        if content.metadata is not UNSET:
            return False
        for part in content.parts:
            if part.text is UNSET or part.metadata is not UNSET:
                return False
    return True


def trace_of(message: Envelope) -> TraceContext | None:
    """The trace context of a message, where it has a well-formed one."""
    parent, state = message.traceparent, message.tracestate
    if isinstance(parent, UnsetType):
        return None
    return parse_trace(parent, None if isinstance(state, UnsetType) else state)


class TaskSubmit(Envelope, kw_only=True, tag="dev.dragoman.task.submit"):
    """``task.submit``: A caller asks for a task."""

    data: SubmitData


class TaskReply(Envelope, kw_only=True, tag="dev.dragoman.task.reply"):
    """``task.reply``: A caller answers a task's question."""

    data: ReplyData


class TaskCancel(Envelope, kw_only=True, tag="dev.dragoman.task.cancel"):
    """``task.cancel``: A caller stops a task."""

    data: CancelData


class TaskGet(Envelope, kw_only=True, tag="dev.dragoman.task.get"):
    """``task.get``: A caller asks for a task as it is."""

    data: GetData


class TaskSubscribe(Envelope, kw_only=True, tag="dev.dragoman.task.subscribe"):
    """``task.subscribe``: A caller continues a task's stream."""

    data: SubscribeData


class TaskFlow(Envelope, kw_only=True, tag="dev.dragoman.task.flow"):
    """``task.flow``: A caller says how far it has read."""

    data: FlowData


class TaskStatusUpdate(Envelope, kw_only=True, tag="dev.dragoman.task.status"):
    """``task.status``: An agent tells a state that is not terminal."""

    data: StatusData


class TaskArtifact(Envelope, kw_only=True, tag="dev.dragoman.task.artifact"):
    """``task.artifact``: An agent sends an artifact, or more of one."""

    data: ArtifactData


class TaskFinal(Envelope, kw_only=True, tag="dev.dragoman.task.final"):
    """``task.final``: An agent ends a task."""

    data: FinalData


class TaskSnapshot(Envelope, kw_only=True, tag="dev.dragoman.task.snapshot"):
    """``task.snapshot``: An agent tells a task as it is."""

    data: SnapshotData


class TaskStep(Envelope, kw_only=True, tag="dev.dragoman.task.step"):
    """``task.step``: A worker keeps the result of a finished step."""

    data: StepData


class TaskChild(Envelope, kw_only=True, tag="dev.dragoman.task.child"):
    """``task.child``: A worker has delegated a durable task."""

    data: ChildData


class TaskOutbox(Envelope, kw_only=True, tag="dev.dragoman.task.outbox"):
    """``task.outbox``: What is sent once a task has ended."""

    data: OutboxData


class TaskDeadLetter(Envelope, kw_only=True, tag="dev.dragoman.task.deadletter"):
    """``task.deadletter``: A durable task failed; all that is known of it."""

    data: DeadLetterData


class TaskSettlement(Envelope, kw_only=True, tag="dev.dragoman.task.settlement"):
    """``task.settlement``: A dead letter was redriven or dropped."""

    data: SettlementData


class ErrorMessage(Envelope, kw_only=True, tag="dev.dragoman.error"):
    """``error``: A request was not accepted."""

    data: ErrorData


class AgentAnnounce(Envelope, kw_only=True, tag="dev.dragoman.agent.announce"):
    """``agent.announce``: An agent says what it is and can do."""

    data: AnnounceData


class AgentLease(Envelope, kw_only=True, tag="dev.dragoman.agent.lease"):
    """``agent.lease``: A running instance says that it lives."""

    data: LeaseData


class AgentStatus(Envelope, kw_only=True, tag="dev.dragoman.agent.status"):
    """``agent.status``: An operator asks an instance for its lease."""

    data: StatusRequestData


class AgentDrain(Envelope, kw_only=True, tag="dev.dragoman.agent.drain"):
    """``agent.drain``: An operator asks an instance to finish and leave."""

    data: DrainData


class BusEvent(Envelope, kw_only=True, tag="dev.dragoman.bus.event"):
    """``bus.event``: An agent tells whoever listens to a topic."""

    data: EventData


TaskUpdate: TypeAlias = TaskStatusUpdate | TaskArtifact | TaskFinal | TaskSnapshot
"""What an agent sends about a task it has accepted."""

AnyMessage: TypeAlias = (
    TaskSubmit
    | TaskReply
    | TaskCancel
    | TaskGet
    | TaskSubscribe
    | TaskFlow
    | TaskStatusUpdate
    | TaskArtifact
    | TaskFinal
    | TaskSnapshot
    | TaskStep
    | TaskChild
    | TaskOutbox
    | TaskDeadLetter
    | TaskSettlement
    | ErrorMessage
    | AgentAnnounce
    | AgentLease
    | AgentStatus
    | AgentDrain
    | BusEvent
)
"""Every message of protocol 1.0."""

MESSAGE_TYPES: dict[str, type[Envelope]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        TaskSubmit,
        TaskReply,
        TaskCancel,
        TaskGet,
        TaskSubscribe,
        TaskFlow,
        TaskStatusUpdate,
        TaskArtifact,
        TaskFinal,
        TaskSnapshot,
        TaskStep,
        TaskChild,
        TaskOutbox,
        TaskDeadLetter,
        TaskSettlement,
        ErrorMessage,
        AgentAnnounce,
        AgentLease,
        AgentStatus,
        AgentDrain,
        BusEvent,
    )
}
"""The classes by the value of their ``type`` attribute."""


def task_of(message: TaskUpdate) -> str:
    """The id of the task that a message of a log, or a snapshot, is about."""
    if isinstance(message, TaskSnapshot):
        return message.data.task.id
    if isinstance(message, TaskArtifact):
        return message.data.artifact_update.task_id
    return message.data.status_update.task_id


def type_of(message: Envelope) -> str:
    """The ``type`` attribute of ``message``."""
    return str(message.__struct_config__.tag)
