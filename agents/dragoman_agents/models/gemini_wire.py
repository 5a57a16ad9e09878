"""Gemini's generateContent as data: a request becomes the SDK's arguments, its answer a ``Result``.

As with the other wires no call is made here and the SDK is not imported: dictionaries go in, its
objects come out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from dragoman_agents.models.errors import ModelError, ModelErrorKind
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
from dragoman_agents.models.tool_calls import arguments_of, keep_data, kept_data, tool_names
from dragoman_agents.models.wire_values import count_or_none

__all__ = ["ContentBuilder", "content_arguments"]

FINISHES: Mapping[str, Finish] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
}

FAILURES: Mapping[str, ModelErrorKind] = {
    "BLOCKLIST": "refused",
    "ESCALATION": "refused",
    "IMAGE_PROHIBITED_CONTENT": "refused",
    "IMAGE_RECITATION": "refused",
    "IMAGE_SAFETY": "refused",
    "LANGUAGE": "refused",
    "MALFORMED_FUNCTION_CALL": "internal",
    "MALFORMED_RESPONSE": "internal",
    "MISSING_THOUGHT_SIGNATURE": "invalid",
    "MODEL_ARMOR": "refused",
    "PROHIBITED_CONTENT": "refused",
    "PUP_LIMITED_DISABLED": "auth",
    "RECITATION": "refused",
    "SAFETY": "refused",
    "SPII": "refused",
    "TOO_MANY_TOOL_CALLS": "internal",
    "UNEXPECTED_TOOL_CALL": "internal",
}
"""Reasons to stop that leave no answer. Others, and those to come, end it with ``other``."""

OWNER = "gemini"

UNSIGNED = b"skip_thought_signature_validator"
"""Stands for the signature of a call that another model made; without any it is refused."""


def content_arguments(request: Request, *, model: str) -> dict[str, Any]:
    """The keyword arguments of ``generate_content``; ``config`` is a dictionary to be added to."""
    config: dict[str, Any] = {
        # Tools are the caller's to run, and one call here is one call at the provider.
        "automatic_function_calling": {"disable": True},
        "automatic_continuation": False,
    }
    if request.system:
        config["system_instruction"] = request.system
    if request.tools:
        config["tools"] = [{"function_declarations": [_tool(tool) for tool in request.tools]}]
    if request.schema is not None:
        config["response_mime_type"] = "application/json"
        config["response_json_schema"] = dict(request.schema)
    if request.max_output_tokens is not None:
        config["max_output_tokens"] = request.max_output_tokens
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.seed is not None:
        config["seed"] = request.seed
    return {"model": model, "contents": _contents(request.messages), "config": config}


class ContentBuilder:
    """Puts an answer together from a stream's pieces, or from one whole response.

    Args:
        model: The model asked for, used when the server does not say which one served.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._request_id: str | None = None
        self._text: list[str] = []
        self._calls: list[ToolCall] = []
        self._finish: str | None = None
        self._finish_words: str | None = None
        self._blocked: str | None = None
        self._usage = Usage()
        self._whole = False

    def add_response(self, response: Any) -> None:
        """Take one whole response."""
        self.add_piece(response)
        self._whole = True

    def add_piece(self, response: Any) -> list[Event]:
        """Take a piece of a stream; the text it brings comes back as an event."""
        self._model = response.model_version or self._model
        self._request_id = response.response_id or self._request_id
        if response.usage_metadata is not None:
            # Each piece counts all that came before it.
            self._usage = _usage(response.usage_metadata)
        feedback = response.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            words = feedback.block_reason_message or ""
            self._blocked = f"{_value(feedback.block_reason)} {words}".strip()
        events: list[Event] = []
        for candidate in (response.candidates or ())[:1]:
            self._finish = _value(candidate.finish_reason) or self._finish
            self._finish_words = candidate.finish_message or self._finish_words
            for part in (candidate.content.parts or ()) if candidate.content else ():
                text = self._add_part(part)
                events += [TextDelta(text)] if text else []
        return events

    def result(self) -> Result:
        """The whole answer.

        Raises:
            ModelError: it is not whole, or there is none: the prompt or the answer was blocked.
        """
        if self._blocked is not None:
            message = f"the provider blocked the prompt: {self._blocked}"
            raise ModelError("refused", message, usage=self._usage)
        if self._finish is None and self._whole:
            raise ValueError("a response without a finished candidate")
        if self._finish is None:
            message = "the stream broke off before the answer was complete"
            raise ModelError("unreachable", message, usage=self._usage)
        if self._finish in FAILURES:
            words = f": {self._finish_words}" if self._finish_words else ""
            message = f"the model stopped without an answer, for {self._finish}{words}"
            raise ModelError(FAILURES[self._finish], message, usage=self._usage)
        return Result(
            text="".join(self._text),
            finish="tool_calls" if self._calls else FINISHES.get(self._finish, "other"),
            model=self._model,
            usage=self._usage,
            tool_calls=tuple(self._calls),
            request_id=self._request_id,
        )

    def _add_part(self, part: Any) -> str:
        if part.function_call is not None:
            self._calls.append(self._call(part))
        if part.thought or not part.text:
            return ""
        self._text.append(part.text)
        return str(part.text)

    def _call(self, part: Any) -> ToolCall:
        call = part.function_call
        signature = part.thought_signature
        kept = {
            "id": call.id,
            "signature": None if signature is None else base64.b64encode(signature).decode(),
        }
        return ToolCall(
            # An answer to the call needs an id, and not every server gives one.
            id=call.id or f"call_{len(self._calls)}",
            name=call.name,
            arguments=json.dumps(call.args or {}),
            provider_data=keep_data(OWNER, kept),
        )


def _value(member: Any) -> str | None:
    """An enumeration's value, also one that the SDK does not know."""
    return None if member is None else str(getattr(member, "value", member))


def _usage(told: Any) -> Usage:
    """Counts that are zero are left out on the wire; the total tells them from unknown ones."""
    prompt = count_or_none(told.prompt_token_count)
    given = prompt
    if prompt is not None:
        given = prompt + (count_or_none(told.tool_use_prompt_token_count) or 0)
    spoken = count_or_none(told.candidates_token_count)
    thoughts = count_or_none(told.thoughts_token_count)
    made: int | None
    if spoken is None and thoughts is None:
        total = count_or_none(told.total_token_count)
        made = None if total is None or given is None else max(0, total - given)
    else:
        made = (spoken or 0) + (thoughts or 0)
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cached_input_tokens=count_or_none(told.cached_content_token_count),
        reasoning_tokens=thoughts,
        source="provider",
    )


def _contents(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The turns; answers of tools that follow one another are one turn, as the wire insists."""
    names = tool_names(messages)
    kept = {call.id: kept_data(OWNER, call) for message in messages for call in message.tool_calls}
    contents: list[dict[str, Any]] = []
    after_tool = False
    for message in messages:
        is_tool = message.role == "tool"
        parts = [_answer(message, names, kept)] if is_tool else list(_parts(message))
        if is_tool and after_tool:
            contents[-1]["parts"] += parts
        elif parts:
            role = "model" if message.role == "assistant" else "user"
            contents.append({"role": role, "parts": parts})
        after_tool = is_tool
    return contents


def _parts(message: Message) -> Iterable[dict[str, Any]]:
    for attachment in message.attachments:
        yield _attached(attachment)
    if message.text:
        yield {"text": message.text}
    for index, call in enumerate(message.tool_calls):
        kept = kept_data(OWNER, call)
        asked = {"name": call.name, "args": arguments_of(call)} | _id(kept)
        part: dict[str, Any] = {"function_call": asked}
        if kept is None and index == 0:
            part["thought_signature"] = UNSIGNED
        elif kept is not None and kept.get("signature"):
            part["thought_signature"] = base64.b64decode(kept["signature"])
        yield part


def _answer(message: Message, names: Mapping[str, str], kept: Mapping[str, Any]) -> dict[str, Any]:
    call = message.tool_call_id or ""
    if call not in names:
        raise ModelError("invalid", f"no tool call {call!r} stands before the answer to it")
    answer = {"name": names[call], "response": {"output": message.text}} | _id(kept[call])
    return {"function_response": answer}


def _id(kept: Any) -> dict[str, str]:
    """The id that the provider itself gave the call; another's would be unknown to it."""
    return {"id": kept["id"]} if kept and kept.get("id") else {}


def _attached(attachment: Attachment) -> dict[str, Any]:
    if attachment.data is None:
        return {"file_data": {"file_uri": attachment.uri, "mime_type": attachment.media_type}}
    return {"inline_data": {"data": attachment.data, "mime_type": attachment.media_type}}


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters_json_schema": dict(tool.parameters),
    }
