"""OpenAI's Responses wire as data: a request becomes the SDK's arguments, its answer a ``Result``.

As with Chat Completions (``openai_wire``) no call is made here, and what a server garbles
surfaces as ``ValueError``, ``TypeError`` or ``AttributeError``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dragoman_agents.models.errors import ModelError, ModelErrorKind
from dragoman_agents.models.openai_schemas import is_strict_schema
from dragoman_agents.models.openai_wire import refused
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
from dragoman_agents.models.wire_values import count_or_none, text_or_none

__all__ = ["ResponseBuilder", "response_arguments"]

KIND_BY_CODE: Mapping[str, ModelErrorKind] = {
    "rate_limit_exceeded": "rate_limited",
    "insufficient_quota": "quota",
    "context_length_exceeded": "context_length",
    "invalid_prompt": "refused",
    "bio_policy": "refused",
    "misalignment_policy_violation": "refused",
    "image_content_policy_violation": "refused",
    "data_residency_mismatch": "auth",
    "vector_store_timeout": "timeout",
}


def response_arguments(request: Request, *, model: str) -> dict[str, Any]:
    """The keyword arguments of ``responses.create``. The wire has no seed.

    Nothing is stored at the provider: the conversation is in the request.
    """
    arguments: dict[str, Any] = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message)],
        "store": False,
    }
    if request.system:
        arguments["instructions"] = request.system
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    if request.schema is not None:
        arguments["text"] = {
            "format": {
                "type": "json_schema",
                "name": "answer",
                "schema": dict(request.schema),
                "strict": is_strict_schema(request.schema),
            }
        }
    if request.max_output_tokens is not None:
        arguments["max_output_tokens"] = request.max_output_tokens
    if request.temperature is not None:
        arguments["temperature"] = request.temperature
    return arguments


class ResponseBuilder:
    """Puts an answer together from a stream's events, or from one response.

    Args:
        model: The model asked for, used when the server does not say which one served.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._response: Any = None

    def add_chunk(self, event: Any) -> list[Event]:
        """Take one event of a stream; the text it brings comes back as an event."""
        if event.type == "response.output_text.delta":
            text = text_or_none(event.delta)
            return [TextDelta(text)] if text else []
        if event.type in ("response.completed", "response.incomplete", "response.failed"):
            self._response = event.response
        elif event.type == "error":
            raise _failure(event.code, event.message)
        return []

    def add_response(self, response: Any) -> None:
        """Take one whole response."""
        self._response = response

    def result(self) -> Result:
        """The whole answer.

        Raises:
            ModelError: it is not whole, failed, or is a refusal.
        """
        response = self._response
        if response is None:
            raise ModelError("unreachable", "the stream broke off before the answer was complete")
        usage = Usage() if response.usage is None else _usage(response.usage)
        if response.status == "failed" or response.error is not None:
            raise _failure(response.error.code, response.error.message, usage)
        if response.status not in ("completed", "incomplete"):
            raise ValueError(f"a response with the status {response.status!r}")
        texts, calls = _contents(response.output, usage)
        return Result(
            text="".join(texts),
            finish="tool_calls" if calls else _finish(response, usage),
            model=text_or_none(response.model) or self._model,
            usage=usage,
            tool_calls=tuple(calls),
            request_id=text_or_none(response.id),
        )


def _contents(output: Any, usage: Usage) -> tuple[list[str], list[ToolCall]]:
    texts: list[str] = []
    calls: list[ToolCall] = []
    for item in output:
        if item.type == "function_call":
            calls.append(ToolCall(id=item.call_id, name=item.name, arguments=item.arguments))
        for part in item.content or () if item.type == "message" else ():
            if part.type == "refusal":
                raise refused(part.refusal, usage)
            if part.type == "output_text":
                texts.append(part.text)
    return texts, calls


def _finish(response: Any, usage: Usage) -> Finish:
    if response.status == "completed":
        return "stop"
    reason = response.incomplete_details.reason if response.incomplete_details else None
    if reason == "content_filter":
        raise refused("", usage)
    return "length" if reason == "max_output_tokens" else "other"


def _failure(code: Any, message: Any, usage: Usage | None = None) -> ModelError:
    kind = KIND_BY_CODE.get(str(code))
    if kind is None:
        # A picture that cannot be used today cannot be used tomorrow.
        kind = "invalid" if "image" in str(code) else "overloaded"
    return ModelError(kind, f"the response failed: {message or code}", usage=usage)


def _usage(usage: Any) -> Usage:
    given, made = usage.input_tokens_details, usage.output_tokens_details
    return Usage(
        input_tokens=count_or_none(usage.input_tokens),
        output_tokens=count_or_none(usage.output_tokens),
        cached_input_tokens=count_or_none(getattr(given, "cached_tokens", None)),
        reasoning_tokens=count_or_none(getattr(made, "reasoning_tokens", None)),
        source="provider",
    )


def _items(message: Message) -> Iterator[dict[str, Any]]:
    """A turn is one item, and each tool call and each tool's answer one of its own."""
    if message.role == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message.tool_call_id,
            "output": message.text,
        }
        return
    if message.attachments:
        parts = [_part(attachment) for attachment in message.attachments]
        parts.append({"type": "input_text", "text": message.text})
        yield {"role": message.role, "content": parts}
    elif message.text or not message.tool_calls:
        yield {"role": message.role, "content": message.text}
    for call in message.tool_calls:
        yield {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }


def _part(attachment: Attachment) -> dict[str, Any]:
    if attachment.is_image:
        return {"type": "input_image", "image_url": attachment.address, "detail": "auto"}
    if attachment.data is None:
        return {"type": "input_file", "file_url": attachment.uri}
    name = attachment.name or "file"
    return {"type": "input_file", "filename": name, "file_data": attachment.address}


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "strict": is_strict_schema(tool.parameters),
    }
