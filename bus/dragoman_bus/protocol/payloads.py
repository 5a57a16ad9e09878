"""The ``data`` of every message of protocol 1.0: what A2A lacks, beside whole A2A objects.

Spec: spec/model.md and spec/operations.md; schemas: one file per message type. Members that only
senders of a later minor version know are ignored here (spec/versioning.md).
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Raw, UnsetType, field

from dragoman_bus.protocol.a2a import (
    AgentCard,
    Artifact,
    Message,
    Prose,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
    Timestamp,
    Token,
    Uri,
)
from dragoman_bus.protocol.receipts import (
    MAXIMUM_INTEGER,
    Code,
    Cost,
    Count,
    Currency,
    Data,
    Digest,
    ModelIdentity,
    Name,
    Reason,
    Receipt,
    Usage,
)

__all__ = [
    "TERMINAL_STATES",
    "AnnounceData",
    "ArtifactData",
    "CancelData",
    "Contract",
    "Cost",
    "DrainData",
    "ErrorData",
    "ErrorObject",
    "EventData",
    "FinalData",
    "FlowData",
    "GetData",
    "InstanceState",
    "LeaseData",
    "Limits",
    "Lineage",
    "ModelFacts",
    "ModelIdentity",
    "Price",
    "ProtocolExtension",
    "Receipt",
    "ReplyData",
    "SnapshotData",
    "StatusData",
    "StatusRequestData",
    "SubmitData",
    "SubscribeData",
    "Usage",
]

TERMINAL_STATES = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED}
)

Sequence: TypeAlias = Annotated[int, Meta(ge=1, le=MAXIMUM_INTEGER)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=86400)]
KeepAlive: TypeAlias = Annotated[float, Meta(gt=0, le=3600)]
Window: TypeAlias = Annotated[int, Meta(ge=1, le=65536)]
Version: TypeAlias = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,3}\.(0|[1-9][0-9]{0,3})$(?!\n)")]


class Limits(Data, kw_only=True):
    """What a task may use. Limits travel with the task and only shrink (spec/model.md, limits)."""

    deadline: Timestamp | UnsetType = UNSET
    max_tokens: Count | UnsetType = UNSET
    max_cost: Cost | UnsetType = UNSET
    max_hops: Annotated[int, Meta(ge=0, le=64)] | UnsetType = UNSET


class Lineage(Data, kw_only=True):
    """Where a delegated task comes from; ``path`` names the agents above, the root's first."""

    parent_task_id: Token
    root_task_id: Token
    path: Annotated[list[Token], Meta(min_length=1, max_length=64)]


class Price(Data, kw_only=True):
    """List price of a model, with its date: data that ages."""

    input_per_million_tokens: Annotated[float, Meta(ge=0)]
    output_per_million_tokens: Annotated[float, Meta(ge=0)]
    currency: Currency
    as_of: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)")]


class ModelFacts(ModelIdentity, kw_only=True):
    """What an agent says of a model it wraps."""

    context_window: Sequence | UnsetType = UNSET
    retires_on: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)")] | UnsetType = (
        UNSET
    )
    price: Price | UnsetType = UNSET


class ErrorObject(Data, kw_only=True):
    """What went wrong, for programs and for people (spec/errors.md)."""

    code: Code
    message: Prose
    retryable: bool
    retry_after_seconds: Seconds | UnsetType = UNSET
    side_effects: Literal["none", "possible", "committed"]
    attempt: Sequence | UnsetType = UNSET
    supported_versions: Annotated[list[Version], Meta(min_length=1, max_length=16)] | UnsetType = (
        UNSET
    )
    details: dict[str, Any] | UnsetType = UNSET


class Contract(Data, kw_only=True):
    """The typed interface of one skill; ``digest`` covers the schemas (spec/model.md)."""

    skill: Token
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    digest: Digest
    text_input: Name | UnsetType = UNSET
    streaming: bool | UnsetType = UNSET


class ProtocolExtension(Data, kw_only=True):
    """An extension by its URI."""

    uri: Uri
    required: bool | UnsetType = UNSET


class SubmitData(Data, kw_only=True):
    """Ask an agent, or whoever has a skill, to do a task."""

    task_id: Token
    skill: Token
    message: Message
    context_id: Token | UnsetType = UNSET
    accepted_output_modes: Annotated[list[Name], Meta(max_length=64)] | UnsetType = UNSET
    contract: Digest | UnsetType = UNSET
    delivery: Literal["direct", "durable"] | UnsetType = UNSET
    class_: Literal["interactive", "batch"] | UnsetType = field(default=UNSET, name="class")
    limits: Limits | UnsetType = UNSET
    lineage: Lineage | UnsetType = UNSET
    flow_window: Window | UnsetType = UNSET
    required_extensions: Annotated[list[Uri], Meta(max_length=16)] | UnsetType = UNSET
    agent: Token | UnsetType = UNSET
    audience: Annotated[list[Token], Meta(min_length=1, max_length=256)] | UnsetType = UNSET
    ordered: bool | UnsetType = UNSET
    maximum_attempts: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    redrive_of: Token | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.message.role is not Role.USER:
            raise ValueError("the message of a submission has the role ROLE_USER")


class ReplyData(Data, kw_only=True):
    """Answer the question of a task that is in ``TASK_STATE_INPUT_REQUIRED``."""

    task_id: Token
    message: Message

    def __post_init__(self) -> None:
        if self.message.role is not Role.USER:
            raise ValueError("the message of a reply has the role ROLE_USER")


class CancelData(Data, kw_only=True):
    """Stop a task and everything below it."""

    task_id: Token
    reason: Reason | UnsetType = UNSET


class GetData(Data, kw_only=True):
    """Ask for a task as it is now."""

    task_id: Token


class SubscribeData(Data, kw_only=True):
    """Continue a task's stream on the reply subject of this request."""

    task_id: Token
    after: Count | UnsetType = UNSET
    flow_window: Window | UnsetType = UNSET


class FlowData(Data, kw_only=True):
    """The caller has read the stream through this sequence."""

    task_id: Token
    through: Count


class StatusData(Data, kw_only=True):
    """A state change that is not terminal, or a keep-alive."""

    status_update: TaskStatusUpdateEvent
    sequence: Sequence
    attempt: Sequence
    keep_alive_seconds: KeepAlive | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.status_update.status.state in TERMINAL_STATES:
            raise ValueError("a terminal state is told by task.final only")


class ArtifactData(Data, kw_only=True):
    """A new artifact, or more of one."""

    artifact_update: TaskArtifactUpdateEvent
    sequence: Sequence
    attempt: Sequence
    keep_alive_seconds: KeepAlive | UnsetType = UNSET


class FinalData(Data, kw_only=True):
    """The end of a task. Artifacts given here replace those of the same id."""

    status_update: TaskStatusUpdateEvent
    sequence: Sequence
    attempt: Sequence
    artifacts: Annotated[list[Artifact], Meta(max_length=1024)] | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    receipt: Receipt | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.status_update.status.state not in TERMINAL_STATES:
            raise ValueError("task.final carries a terminal state")


class SnapshotData(Data, kw_only=True):
    """A task as it is at ``sequence``."""

    task: Task
    sequence: Count
    attempt: Sequence
    keep_alive_seconds: KeepAlive | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    receipt: Receipt | UnsetType = UNSET
    error: ErrorObject | UnsetType = UNSET


class ErrorData(Data, kw_only=True):
    """A request that was not accepted."""

    error: ErrorObject
    task_id: Token | UnsetType = UNSET


class AnnounceData(Data, kw_only=True):
    """What an agent is and can do; immutable, found by its digest."""

    agent: Token
    card: AgentCard
    contracts: Annotated[list[Contract], Meta(max_length=256)]
    protocol_versions: Annotated[list[Version], Meta(min_length=1, max_length=16)]
    models: Annotated[list[ModelFacts], Meta(max_length=64)] | UnsetType = UNSET
    extensions: Annotated[list[ProtocolExtension], Meta(max_length=64)] | UnsetType = UNSET


class InstanceState(enum.Enum):
    """Whether an instance takes new tasks."""

    READY = "ready"
    DRAINING = "draining"


class LeaseData(Data, kw_only=True):
    """A running instance; gone when it is not renewed within ``leaseSeconds``."""

    agent: Token
    instance: Token
    card: Digest
    state: InstanceState
    lease_seconds: KeepAlive
    slots: Sequence
    running: Count
    queued: Count
    started_at: Timestamp


class StatusRequestData(Data, kw_only=True):
    """Ask an instance for its lease as it is now."""

    agent: Token | UnsetType = UNSET


class DrainData(Data, kw_only=True):
    """Ask an instance to take no new tasks, finish, and leave."""

    reason: Reason | UnsetType = UNSET
    grace_seconds: Seconds | UnsetType = UNSET


class EventData(Data, kw_only=True):
    """Something an agent tells whoever listens to a topic."""

    topic: Token
    event: Token
    payload: Raw
    context_id: Token | UnsetType = UNSET
