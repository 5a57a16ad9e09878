"""Chat Completions as data: a request becomes the SDK's arguments, its answer a ``Result``.

No call is made here and the SDK is not imported: its objects come in, ours go out. The SDK does
not validate what a server sends, so a missing or mistyped member surfaces here as ``ValueError``,
``TypeError`` or ``AttributeError``, which the adapter reports as kind ``internal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from dragoman_agents.models.errors import ModelError, ModelErrorKind
from dragoman_agents.models.openai_profiles import LimitParameter
from dragoman_agents.models.openai_schemas import is_strict_schema
from dragoman_agents.models.port import (
    Attachment,
    Event,
    Finish,
    Message,
    Request,
    Result,
    TextDelta,
    ToolCall,
    Usage,
)
from dragoman_agents.models.wire_values import count_or_none, text_or_none

__all__ = [
    "AnswerBuilder",
    "chat_arguments",
    "refused",
]

FINISHES: Mapping[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


KIND_BY_TOLD_CODE: Mapping[str, ModelErrorKind] = {
    "400": "invalid",
    "401": "auth",
    "402": "quota",
    "403": "refused",
    "404": "unavailable",
    "408": "timeout",
    "429": "rate_limited",
}


def chat_arguments(
    request: Request, *, model: str, limit_parameter: LimitParameter
) -> dict[str, Any]:
    """The keyword arguments of ``chat.completions.create`` for ``request``.

    Args:
        request: What to ask.
        model: The model's id.
        limit_parameter: How the server spells the output limit.
    """
    arguments: dict[str, Any] = {"model": model, "messages": _messages(request)}
    if request.tools:
        arguments["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in request.tools
        ]
    if request.schema is not None:
        arguments["response_format"] = _response_format(request.schema)
    if request.max_output_tokens is not None:
        arguments[limit_parameter] = request.max_output_tokens
    if request.temperature is not None:
        arguments["temperature"] = request.temperature
    if request.seed is not None:
        arguments["seed"] = request.seed
    return arguments


class _ToolCallParts(Struct):
    id: str = ""
    name: str = ""
    arguments: str = ""


class AnswerBuilder:
    """Puts an answer together from a stream's chunks, or from one completion.

    Args:
        model: The model asked for, used when the server does not say which one served.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._tools: dict[int, _ToolCallParts] = {}
        self._finish: str | None = None
        self._usage = Usage()
        self._request_id: str | None = None

    def add_chunk(self, chunk: Any) -> list[Event]:
        """Take one ``ChatCompletionChunk``; the text it brings comes back as an event."""
        self._note(chunk)
        events: list[Event] = []
        for choice in chunk.choices or ():
            delta = choice.delta
            if delta is not None:
                text = self._add_message(delta)
                if text:
                    events.append(TextDelta(text))
            self._finish = choice.finish_reason or self._finish
        return events

    def add_completion(self, completion: Any) -> None:
        """Take one whole ``ChatCompletion``."""
        self._note(completion)
        error = getattr(completion, "error", None)
        if error is not None and not completion.choices:
            raise _told_failure(error)
        choice = completion.choices[0]
        self._add_message(choice.message)
        self._finish = choice.finish_reason or "stop"

    def result(self) -> Result:
        """The whole answer.

        Raises:
            ModelError: it is not whole, or is a refusal.
        """
        if self._refusal or self._finish == "content_filter":
            raise refused("".join(self._refusal), self._usage)
        if self._finish is None:
            message = "the stream broke off before the answer was complete"
            raise ModelError("unreachable", message, usage=self._usage)
        text = "".join(self._text)
        return Result(
            text=text,
            finish=FINISHES.get(self._finish, "other"),
            model=self._model,
            usage=self._usage,
            tool_calls=self._tool_calls(),
            request_id=self._request_id,
        )

    def _note(self, answer: Any) -> None:
        self._model = text_or_none(answer.model) or self._model
        self._request_id = text_or_none(answer.id) or self._request_id
        if answer.usage is not None:
            self._usage = _usage(answer.usage)

    def _add_message(self, message: Any) -> str:
        """A message and a stream's delta have the same members; returns the text added."""
        refusal = text_or_none(message.refusal)
        if refusal:
            self._refusal.append(refusal)
        for position, call in enumerate(message.tool_calls or ()):
            self._add_tool_call(getattr(call, "index", None), position, call)
        text = text_or_none(message.content) or ""
        if text:
            self._text.append(text)
        return text

    def _add_tool_call(self, index: int | None, position: int, call: Any) -> None:
        parts = self._tools.setdefault(position if index is None else index, _ToolCallParts())
        parts.id = parts.id or text_or_none(call.id) or ""
        if call.function is not None:
            parts.name += text_or_none(call.function.name) or ""
            parts.arguments += text_or_none(call.function.arguments) or ""

    def _tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            # Some servers leave the id out; an answer to the call needs one.
            ToolCall(id=parts.id or f"call_{index}", name=parts.name, arguments=parts.arguments)
            for index, parts in sorted(self._tools.items())
        )


def refused(words: str, usage: Usage) -> ModelError:
    """The error for an answer that declines; ``words`` are the model's, empty for a filter's."""
    message = "the provider's content filter stopped the answer"
    if words:
        message = f"the model declines to answer: {words}"
    return ModelError("refused", message, usage=usage)


def _told_failure(error: Any) -> ModelError:
    """Routers report a provider's failure in a body whose HTTP status is 200."""
    told = error if isinstance(error, Mapping) else {"message": error}
    kind: ModelErrorKind = KIND_BY_TOLD_CODE.get(str(told.get("code")), "overloaded")
    return ModelError(kind, f"the server reports a failure: {told.get('message')}")


def _messages(request: Request) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    return system + [_message(message) for message in request.messages]


def _message(message: Message) -> dict[str, Any]:
    content: Any = message.text
    if message.attachments:
        content = [_part(attachment) for attachment in message.attachments]
        content.append({"type": "text", "text": message.text})
    wire: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        wire["tool_calls"] = list(_wire_calls(message.tool_calls))
    return wire


def _part(attachment: Attachment) -> dict[str, Any]:
    if attachment.is_image:
        return {"type": "image_url", "image_url": {"url": attachment.address}}
    if attachment.data is None:
        raise ModelError("invalid", "a file is sent as bytes here, not as an address")
    name = attachment.name or "file"
    return {"type": "file", "file": {"filename": name, "file_data": attachment.address}}


def _wire_calls(calls: Iterable[ToolCall]) -> Iterable[dict[str, Any]]:
    for call in calls:
        function = {"name": call.name, "arguments": call.arguments}
        yield {"id": call.id, "type": "function", "function": function}


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    json_schema = {"name": "answer", "schema": dict(schema), "strict": is_strict_schema(schema)}
    return {"type": "json_schema", "json_schema": json_schema}


def _usage(usage: Any) -> Usage:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=count_or_none(usage.prompt_tokens),
        output_tokens=count_or_none(usage.completion_tokens),
        cached_input_tokens=count_or_none(getattr(prompt, "cached_tokens", None)),
        reasoning_tokens=count_or_none(getattr(completion, "reasoning_tokens", None)),
        source="provider",
    )
