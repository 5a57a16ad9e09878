"""The one small interface every model is used through: messages in; text, tool calls, usage out.

No provider's type crosses it. Failures are ``ModelError`` (``errors.py``): its kind alone decides
whether to retry, to ask another model, or to give up. An adapter never retries: the bus does.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct, field

__all__ = [
    "Attachment",
    "Capability",
    "Done",
    "Event",
    "Finish",
    "Message",
    "ModelAdapter",
    "Request",
    "Result",
    "SchemaMode",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolCallReady",
    "Usage",
    "remaining_seconds",
]

Capability: TypeAlias = Literal[
    "text",
    "json_schema",
    "tools",
    "stream",
    "image",
    "file",
    "logprobs",
    "embed",
    "classify",
]
"""What an adapter can do with its model, as configured or probed; never guessed from a name.

``json_schema`` is a schema enforced by the provider; without it a schema is told in words.
``image`` and ``file`` are kinds of ``Attachment`` it sends on; ``text`` is absent where a model
only embeds or classifies.
"""

Finish: TypeAlias = Literal["stop", "length", "tool_calls", "other"]
"""Why the model stopped. A refusal is a ``ModelError`` of kind ``refused``, not a finish."""


SchemaMode: TypeAlias = Literal["native", "prompted", "repaired"]
"""How an answer came to fit its schema: enforced by the provider, told in words, or asked again."""


class ToolCall(Struct, frozen=True, kw_only=True):
    """The model asks for a tool. ``arguments`` is the JSON text as the model wrote it.

    ``provider_data`` is what the provider wants to see again when the call goes back to it with
    the tool's answer; nobody else reads it.
    """

    id: str
    name: str
    arguments: str
    provider_data: str | None = None


class Tool(Struct, frozen=True, kw_only=True):
    """A tool the model may call; ``parameters`` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


class Attachment(Struct, frozen=True, kw_only=True):
    """A picture or file beside a message's text: its bytes, or where the provider fetches it.

    Attributes:
        media_type: What it is, as in ``image/png``.
        data: The bytes; exactly one of ``data`` and ``uri`` is given.
        uri: An address that the provider can read.
        name: Its file name, where the provider or the model may use it.
    """

    media_type: str
    data: bytes | None = None
    uri: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.uri is None):
            raise ValueError("an attachment has data or a uri, and not both")

    @property
    def is_image(self) -> bool:
        """Whether it is a picture; everything else is a file."""
        return self.media_type.startswith("image/")

    @property
    def address(self) -> str:
        """Where the provider fetches it, or the bytes themselves as a ``data:`` address."""
        if self.data is None:
            return self.uri or ""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


class Message(Struct, frozen=True, kw_only=True):
    """One turn; ``tool_calls`` with role ``assistant``, ``tool_call_id`` with ``tool`` only.

    ``attachments`` stand with role ``user``, and come before the text where order matters.
    """

    role: Literal["user", "assistant", "tool"]
    text: str
    attachments: tuple[Attachment, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Request(Struct, frozen=True, kw_only=True):
    """What to ask a model.

    Attributes:
        messages: The conversation, oldest first; at least one.
        system: Instructions that stand above the conversation.
        schema: A JSON Schema the answer must fit; the parsed answer is ``Result.data``.
        tools: Tools the model may call.
        max_output_tokens: At most so many tokens in the answer.
        temperature: As the provider understands it; absent means the provider's default. Left out
            where the provider takes none.
        seed: For providers that can repeat an answer.
        deadline: A ``time.monotonic()`` value after which the call is abandoned.
        headers: Sent with the call where the provider is reached by HTTP (``traceparent``).
    """

    messages: tuple[Message, ...]
    system: str | None = None
    schema: Mapping[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    max_output_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    deadline: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one call; ``None`` is unknown, which is not zero.

    ``cached_input_tokens`` are part of ``input_tokens``, ``reasoning_tokens`` of ``output_tokens``.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    source: Literal["provider", "estimated", "none"] = "none"


class Result(Struct, frozen=True, kw_only=True):
    """A whole answer.

    Attributes:
        text: All text of the answer; empty when the model only called tools.
        data: The parsed answer when the request had a ``schema``, else ``None``. It fits the
            schema.
        finish: Why the model stopped.
        model: The model that served the call, as the server names it.
        usage: What the call used.
        tool_calls: The tools the model asks for, in its order.
        request_id: The provider's id of the call, for its support desk.
        schema_mode: How ``data`` came to fit the schema; ``None`` without a schema.
    """

    text: str
    finish: Finish
    model: str
    usage: Usage = Usage()
    data: Any = None
    tool_calls: tuple[ToolCall, ...] = ()
    request_id: str | None = None
    schema_mode: SchemaMode | None = None


class TextDelta(Struct, frozen=True, tag="text"):
    """More text of the answer."""

    text: str


class ToolCallReady(Struct, frozen=True, tag="tool_call"):
    """A tool call whose arguments have come in whole."""

    call: ToolCall


class Done(Struct, frozen=True, tag="done"):
    """The last event of every stream that did not fail."""

    result: Result


Event: TypeAlias = TextDelta | ToolCallReady | Done


class ModelAdapter(Protocol):
    """A model, ready to be asked. Safe for concurrent use on one event loop."""

    @property
    def name(self) -> str:
        """The adapter's provider name, as configuration spells it (``openai-compatible``)."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""

    async def generate(self, request: Request) -> Result:
        """Ask, and wait for the whole answer. Cancelling it abandons the provider's call.

        Raises:
            ModelError: the only error; its kind says what to do.
        """

    def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Ask, and take the answer as it comes; the last event is ``Done``.

        Leave it early with ``contextlib.aclosing``, which abandons the call.

        Raises:
            ModelError: while iterating.
        """

    async def health(self) -> None:
        """Return when the model's server can be used now.

        Raises:
            ModelError: with what is wrong and what to do about it.
        """

    async def aclose(self) -> None:
        """Close all connections. The adapter cannot be used afterwards."""


def remaining_seconds(request: Request) -> float | None:
    """Seconds until the request's deadline, not below 0; ``None`` without a deadline."""
    if request.deadline is None:
        return None
    return max(0.0, request.deadline - time.monotonic())
