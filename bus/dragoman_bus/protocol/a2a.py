"""A2A 1.0 objects, member for member, in ProtoJSON form.

Source: A2A 1.0.1 ``specification/a2a.proto``; schema ``a2a.json``. Nothing of ours stands inside
these objects, so that a bridge to A2A never loses anything (spec/model.md). Absent members are
``UNSET`` and are left out when encoded.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

__all__ = [
    "AgentCapabilities",
    "AgentCard",
    "AgentExtension",
    "AgentInterface",
    "AgentProvider",
    "AgentSkill",
    "Artifact",
    "CardSignature",
    "Message",
    "Part",
    "Role",
    "Task",
    "TaskArtifactUpdateEvent",
    "TaskState",
    "TaskStatus",
    "TaskStatusUpdateEvent",
    "data_part",
    "text_part",
]

TOKEN_PATTERN = r"^[a-z0-9_-]{1,63}$(?!\n)"
TIMESTAMP_PATTERN = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]{1,9})?Z$(?!\n)"
)

Token: TypeAlias = Annotated[str, Meta(pattern=TOKEN_PATTERN)]
Timestamp: TypeAlias = Annotated[str, Meta(pattern=TIMESTAMP_PATTERN)]
Identifier: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Label: TypeAlias = Annotated[str, Meta(max_length=256)]
Prose: TypeAlias = Annotated[str, Meta(max_length=4096)]
Uri: TypeAlias = Annotated[str, Meta(min_length=1, max_length=2048)]
Metadata: TypeAlias = dict[str, Any]


class TaskState(enum.Enum):
    """A2A's task states. ``UNSPECIFIED`` is never sent."""

    SUBMITTED = "TASK_STATE_SUBMITTED"
    WORKING = "TASK_STATE_WORKING"
    COMPLETED = "TASK_STATE_COMPLETED"
    FAILED = "TASK_STATE_FAILED"
    CANCELED = "TASK_STATE_CANCELED"
    REJECTED = "TASK_STATE_REJECTED"
    INPUT_REQUIRED = "TASK_STATE_INPUT_REQUIRED"
    AUTH_REQUIRED = "TASK_STATE_AUTH_REQUIRED"

    # Members are singletons; Enum's own hash is Python code, and every message asks for it.
    __hash__ = object.__hash__


class Role(enum.Enum):
    """Who speaks in a message."""

    USER = "ROLE_USER"
    AGENT = "ROLE_AGENT"


# No message refers to itself, so the garbage collector need not visit any (gc=False).
class _Object(Struct, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    pass


class Part(_Object, kw_only=True):
    """One piece of content: exactly one of ``text``, ``raw`` (base64), ``url``, ``data``.

    ``data`` is any JSON value and stays encoded (``msgspec.Raw``) until somebody needs it.
    """

    text: str | UnsetType = UNSET
    raw: str | UnsetType = UNSET
    url: Uri | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    filename: Label | UnsetType = UNSET
    media_type: Label | UnsetType = UNSET

    def __post_init__(self) -> None:
        present = (
            (self.text is not UNSET)
            + (self.raw is not UNSET)
            + (self.url is not UNSET)
            + (self.data is not UNSET)
        )
        if present != 1:
            raise ValueError("a part has exactly one of text, raw, url, data")


class Message(_Object, kw_only=True):
    """One turn of a conversation."""

    message_id: Identifier
    role: Role
    parts: Annotated[list[Part], Meta(min_length=1, max_length=1024)]
    context_id: Token | UnsetType = UNSET
    task_id: Token | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    extensions: Annotated[list[Uri], Meta(max_length=64)] | UnsetType = UNSET
    reference_task_ids: Annotated[list[Token], Meta(max_length=64)] | UnsetType = UNSET


class Artifact(_Object, kw_only=True):
    """A result, or a growing piece of one."""

    artifact_id: Identifier
    parts: Annotated[list[Part], Meta(min_length=1, max_length=65536)]
    name: Label | UnsetType = UNSET
    description: Prose | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    extensions: Annotated[list[Uri], Meta(max_length=64)] | UnsetType = UNSET


class TaskStatus(_Object, kw_only=True):
    """A state, optionally with words and a time."""

    state: TaskState
    message: Message | UnsetType = UNSET
    timestamp: Timestamp | UnsetType = UNSET


class TaskStatusUpdateEvent(_Object, kw_only=True):
    """A task's state changed."""

    task_id: Token
    context_id: Token
    status: TaskStatus
    metadata: Metadata | UnsetType = UNSET


class TaskArtifactUpdateEvent(_Object, kw_only=True):
    """A task's artifact appeared (``append`` absent or false) or grew by parts (``append``)."""

    task_id: Token
    context_id: Token
    artifact: Artifact
    append: bool | UnsetType = UNSET
    last_chunk: bool | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class Task(_Object, kw_only=True):
    """A task as a whole: its state and what it has produced so far."""

    id: Token
    context_id: Token
    status: TaskStatus
    artifacts: Annotated[list[Artifact], Meta(max_length=1024)] | UnsetType = UNSET
    history: Annotated[list[Message], Meta(max_length=1024)] | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


class AgentInterface(_Object, kw_only=True):
    """An address where an agent is reached, and the protocol spoken there."""

    url: Uri
    protocol_binding: Annotated[str, Meta(min_length=1, max_length=2048)]
    protocol_version: Annotated[str, Meta(min_length=1, max_length=256)]
    tenant: Label | UnsetType = UNSET


class AgentProvider(_Object, kw_only=True):
    """The organisation that runs an agent."""

    url: Uri
    organization: Label


class AgentExtension(_Object, kw_only=True):
    """A protocol extension the agent supports or requires."""

    uri: Uri | UnsetType = UNSET
    description: Prose | UnsetType = UNSET
    required: bool | UnsetType = UNSET
    params: Metadata | UnsetType = UNSET


class AgentCapabilities(_Object, kw_only=True):
    """Optional abilities of an agent."""

    streaming: bool | UnsetType = UNSET
    push_notifications: bool | UnsetType = UNSET
    extensions: Annotated[list[AgentExtension], Meta(max_length=64)] | UnsetType = UNSET
    extended_agent_card: bool | UnsetType = UNSET


class AgentSkill(_Object, kw_only=True):
    """One thing an agent can do, in words and media types. Typed schemas stand in the contract."""

    id: Token
    name: Label
    description: Prose
    tags: Annotated[list[Label], Meta(max_length=64)]
    examples: Annotated[list[Prose], Meta(max_length=64)] | UnsetType = UNSET
    input_modes: Annotated[list[Label], Meta(max_length=64)] | UnsetType = UNSET
    output_modes: Annotated[list[Label], Meta(max_length=64)] | UnsetType = UNSET
    security_requirements: Annotated[list[Metadata], Meta(max_length=64)] | UnsetType = UNSET


class CardSignature(_Object, kw_only=True):
    """A JSON Web Signature over the card (A2A 1.0, section 8.4)."""

    protected: str
    signature: str
    header: Metadata | UnsetType = UNSET


class AgentCard(_Object, kw_only=True):
    """What an agent says of itself: identity, addresses, skills."""

    name: Label
    description: Prose
    supported_interfaces: Annotated[list[AgentInterface], Meta(min_length=1, max_length=64)]
    version: Label
    capabilities: AgentCapabilities
    default_input_modes: Annotated[list[Label], Meta(max_length=64)]
    default_output_modes: Annotated[list[Label], Meta(max_length=64)]
    skills: Annotated[list[AgentSkill], Meta(max_length=256)]
    provider: AgentProvider | UnsetType = UNSET
    documentation_url: Uri | UnsetType = UNSET
    security_schemes: Metadata | UnsetType = UNSET
    security_requirements: Annotated[list[Metadata], Meta(max_length=64)] | UnsetType = UNSET
    signatures: Annotated[list[CardSignature], Meta(max_length=64)] | UnsetType = UNSET
    icon_url: Uri | UnsetType = UNSET


def text_part(text: str) -> Part:
    """A part that holds ``text``."""
    return Part(text=text)


def data_part(value: Any) -> Part:
    """A part that holds any JSON value; ``value`` is encoded now."""
    return Part(data=Raw(msgspec.json.encode(value)), media_type="application/json")
