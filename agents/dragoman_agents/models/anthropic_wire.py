"""Anthropic's Messages as data: a request becomes the SDK's arguments, its answer a ``Result``.

As with OpenAI's wire no call is made here and the SDK is not imported. It does not validate what a
server sends, so what is garbled surfaces as ``ValueError``, ``TypeError`` or ``AttributeError``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.port import (
    Attachment,
    Event,
    Finish,
    Message,
    Request,
    Result,
    TextDelta,
    Tool,
    ToolCall,
    Usage,
)
from dragoman_agents.models.tool_calls import arguments_of, keep_data, kept_data
from dragoman_agents.models.wire_values import count_or_none, text_or_none

__all__ = ["MessageBuilder", "message_arguments"]

FINISHES: Mapping[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
OWNER = "anthropic"


def message_arguments(request: Request, *, model: str, most_tokens: int) -> dict[str, Any]:
    """The keyword arguments of ``messages.create``, without the schema.

    The wire has no seed, and since version 2026-10-21 no temperature either.

    Args:
        request: What to ask.
        model: The model's id.
        most_tokens: The output limit where the request has none: the wire insists on one.
    """
    limit = request.max_output_tokens
    turns = (_turn(message) for message in request.messages)
    arguments: dict[str, Any] = {
        "model": model,
        "max_tokens": most_tokens if limit is None else limit,
        # The server refuses a turn without content, as an empty answer to be repaired would be.
        "messages": [turn for turn in turns if turn["content"]],
    }
    if request.system:
        arguments["system"] = request.system
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    return arguments


class _Block(Struct):
    """One content block, as far as it has come in."""

    type: str
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    signature: str = ""
    data: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def thought(self) -> dict[str, str]:
        """The block as the server wants it back."""
        if self.type == "redacted_thinking":
            return {"type": self.type, "data": self.data}
        return {"type": self.type, "thinking": self.text, "signature": self.signature}


class MessageBuilder:
    """Puts an answer together from a stream's events, or from one message.

    Args:
        model: The model asked for, used when the server does not say which one served.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._request_id: str | None = None
        self._blocks: dict[int, _Block] = {}
        self._stop: str | None = None
        self._details: Any = None
        self._counts: dict[str, int] = {}
        self._complete = False

    def add_event(self, event: Any) -> list[Event]:
        """Take one event of a stream; the text it brings comes back as an event."""
        if event.type == "message_start":
            self._note(event.message)
        elif event.type == "content_block_start":
            self._blocks[event.index] = _begun(event.content_block)
            return _told(_opening_text(event.content_block))
        elif event.type == "content_block_delta":
            return _told(self._add_delta(self._blocks[event.index], event.delta))
        elif event.type == "message_delta":
            self._stop = text_or_none(event.delta.stop_reason) or self._stop
            self._details = getattr(event.delta, "stop_details", None)
            self._count(event.usage)
        elif event.type == "message_stop":
            self._complete = True
        return []

    def add_message(self, message: Any) -> None:
        """Take one whole message."""
        self._note(message)
        self._stop = text_or_none(message.stop_reason)
        self._details = getattr(message, "stop_details", None)
        for index, content in enumerate(message.content):
            block = self._blocks[index] = _begun(content)
            if content.type == "tool_use":
                block.pieces.append(json.dumps(content.input))
        self._complete = True

    def add_request_id(self, request_id: str | None) -> None:
        """Take the id of the call that a header brought; it is the one that support asks for."""
        self._request_id = request_id or self._request_id

    def result(self) -> Result:
        """The whole answer.

        Raises:
            ModelError: it is not whole, or is a refusal.
        """
        usage = self._usage()
        if not self._complete:
            message = "the stream broke off before the answer was complete"
            raise ModelError("unreachable", message, usage=usage)
        if self._stop is None:
            raise ValueError("a message without a stop_reason")
        if self._stop == "refusal":
            raise ModelError("refused", _refusal(self._details), usage=usage)
        blocks = [block for _, block in sorted(self._blocks.items())]
        return Result(
            text="".join(block.text for block in blocks if block.type == "text"),
            finish=FINISHES.get(self._stop, "other"),
            model=self._model,
            usage=usage,
            tool_calls=_calls(blocks),
            request_id=self._request_id,
        )

    def _note(self, message: Any) -> None:
        self._model = text_or_none(message.model) or self._model
        self._request_id = text_or_none(message.id)
        self._count(message.usage)

    def _count(self, usage: Any) -> None:
        """Counts are cumulative; what a later event leaves out stands."""
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ):
            count = count_or_none(getattr(usage, name, None))
            if count is not None:
                self._counts[name] = count
        details = getattr(usage, "output_tokens_details", None)
        thinking = count_or_none(getattr(details, "thinking_tokens", None))
        if thinking is not None:
            self._counts["thinking_tokens"] = thinking

    def _usage(self) -> Usage:
        counts = self._counts
        if not counts:
            return Usage()
        cached = counts.get("cache_read_input_tokens")
        given = counts.get("input_tokens")
        if given is not None:
            # The wire counts input without what was read from the cache or written to it.
            given += (cached or 0) + counts.get("cache_creation_input_tokens", 0)
        return Usage(
            input_tokens=given,
            output_tokens=counts.get("output_tokens"),
            cached_input_tokens=cached,
            reasoning_tokens=counts.get("thinking_tokens"),
            source="provider",
        )

    def _add_delta(self, block: _Block, delta: Any) -> str:
        if delta.type == "signature_delta":
            block.signature += delta.signature
            return ""
        piece = {
            "text_delta": "text",
            "input_json_delta": "partial_json",
            "thinking_delta": "thinking",
        }.get(delta.type)
        if piece is None:
            return ""
        text = text_or_none(getattr(delta, piece)) or ""
        block.pieces.append(text)
        return text if delta.type == "text_delta" else ""


def _begun(content: Any) -> _Block:
    block = _Block(content.type)
    if content.type == "tool_use":
        block.id, block.name = content.id, content.name
    elif content.type == "thinking":
        block.pieces.append(content.thinking or "")
        block.signature = content.signature or ""
    elif content.type == "redacted_thinking":
        block.data = content.data
    elif content.type == "text":
        block.pieces.append(_opening_text(content))
    return block


def _opening_text(content: Any) -> str:
    return (text_or_none(content.text) or "") if content.type == "text" else ""


def _told(text: str) -> list[Event]:
    return [TextDelta(text)] if text else []


def _calls(blocks: list[_Block]) -> tuple[ToolCall, ...]:
    """The tool calls, each with the thoughts before it: they must go back together."""
    calls: list[ToolCall] = []
    thoughts: list[dict[str, str]] = []
    for index, block in enumerate(blocks):
        if block.type in ("thinking", "redacted_thinking"):
            thoughts.append(block.thought())
        elif block.type == "tool_use":
            call = ToolCall(
                id=block.id or f"call_{index}",
                name=block.name,
                arguments=block.text or "{}",
                provider_data=keep_data(OWNER, thoughts) if thoughts else None,
            )
            calls.append(call)
            thoughts = []
    return tuple(calls)


def _refusal(details: Any) -> str:
    explained = getattr(details, "explanation", None) or getattr(details, "category", None)
    words = f": {explained}" if explained else ""
    return f"the model declines to answer{words}"


def _turn(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        answer = {
            "type": "tool_result",
            "tool_use_id": message.tool_call_id,
            "content": message.text,
        }
        return {"role": "user", "content": [answer]}
    if not message.attachments and not message.tool_calls:
        return {"role": message.role, "content": message.text}
    content = [_attached(attachment) for attachment in message.attachments]
    text = [{"type": "text", "text": message.text}] if message.text else []
    if not message.tool_calls:
        content += text
    for index, call in enumerate(message.tool_calls):
        content += kept_data(OWNER, call) or []
        # A turn that was thought about begins with its thoughts.
        content += text if index == 0 else []
        use = {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)}
        content.append(use)
    return {"role": message.role, "content": content}


def _attached(attachment: Attachment) -> dict[str, Any]:
    kind = "image" if attachment.is_image else "document"
    part: dict[str, Any] = {"type": kind, "source": _source(attachment)}
    if kind == "document" and attachment.name is not None:
        part["title"] = attachment.name
    return part


def _source(attachment: Attachment) -> dict[str, Any]:
    media_type, data = attachment.media_type, attachment.data
    if media_type in IMAGE_TYPES or media_type == "application/pdf":
        if data is None:
            return {"type": "url", "url": attachment.uri}
        encoded = base64.b64encode(data).decode()
        return {"type": "base64", "media_type": media_type, "data": encoded}
    if media_type.startswith("text/") and data is not None:
        text = data.decode("utf-8", errors="replace")
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise ModelError(
        "invalid",
        f"Claude takes no {media_type}{' by address' if data is None else ''}: it takes pictures "
        f"({', '.join(IMAGE_TYPES)}), application/pdf, and text as bytes",
    )


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": dict(tool.parameters),
    }
