"""A local server that speaks Anthropic's Messages wire, version 2026-10-21, as it is documented.

It refuses what the real one refuses, such as a temperature or a schema whose objects are open, so
that a wrong request fails the test that makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.model_server import (
    Failure,
    ModelServer,
    Recorded,
    json_response,
    stream_response,
)

VERSION = "2026-10-21"
MODEL = "claude-test-1"
MOST_TOKENS = 9000
REQUEST_ID = "req_scripted_1"

MEMBERS = {
    "max_tokens",
    "messages",
    "model",
    "output_config",
    "stream",
    "system",
    "thinking",
    "tools",
}
ENFORCED = {
    "$defs",
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "description",
    "enum",
    "format",
    "items",
    "minItems",
    "properties",
    "required",
    "title",
    "type",
}


@dataclass(frozen=True)
class Reply:
    """A healthy answer; ``thoughts`` come before the rest, with their signatures."""

    pieces: Sequence[str] = ("Hello", " world")
    stop: str | None = "end_turn"
    stop_details: Mapping[str, Any] | None = None
    thoughts: Sequence[tuple[str, str]] = ()
    tool_calls: Sequence[tuple[str, str, str]] = ()
    usage: Mapping[str, Any] | None = field(
        default_factory=lambda: {"input_tokens": 7, "output_tokens": 2}
    )
    model: str = MODEL


def event(kind: str, **members: Any) -> bytes:
    """One event of a stream."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | members)}\n\n".encode()


def beginning(*pieces: str) -> bytes:
    """The events of a stream that has begun to say these pieces."""
    begun = [event("message_start", message=_message(Reply(usage=None), [], None))]
    begun.append(_start(0, {"type": "text", "text": ""}))
    return b"".join(begun + [_delta(0, type="text_delta", text=piece) for piece in pieces])


class AnthropicServer(ModelServer[Reply]):
    """Start with ``async with``; the SDK is given ``address``."""

    def __init__(self, *, models: Sequence[Any] = ({"id": MODEL},), key: str | None = None) -> None:
        super().__init__(models=models)
        self._key = key

    def is_call(self, request: Recorded) -> bool:
        return request.path == "/v1/messages"

    def listing(self, models: Sequence[Any], request: Recorded) -> bytes:
        known = [_facts(model) for model in models]
        if request.place == "models":
            return json_response(200, {"data": known, "has_more": False})
        for facts in known:
            if facts["id"] == request.place:
                return json_response(200, facts)
        return json_response(404, _error("not_found_error", f"model: {request.place}"))

    def reply(self, reply: Reply, request: Recorded) -> bytes:
        wrong = self._refusal(request)
        if wrong is not None:
            return json_response(400, _error("invalid_request_error", wrong))
        if request.body.get("stream"):
            return stream_response(b"".join(_events(reply)))
        message = _message(reply, list(_blocks(reply)), reply.stop)
        return json_response(200, message, {"request-id": REQUEST_ID})

    def echo(self, request: Recorded) -> Reply:
        return Reply(pieces=("You said: ", str(request.body["messages"][-1]["content"])))

    def error_body(self, failure: Failure) -> Any:
        return {"type": "error", "error": failure.error, "request_id": REQUEST_ID}

    def _refusal(self, request: Recorded) -> str | None:
        """What the real server would find wrong with the request."""
        body = request.body
        if request.headers.get("anthropic-version") != VERSION:
            return f"anthropic-version: {VERSION} is required"
        if self._key is not None and request.headers.get("authorization") != f"Bearer {self._key}":
            return "authorization: the key is missing"
        strange = body.keys() - MEMBERS
        if strange:
            return f"{sorted(strange)[0]}: Extra inputs are not permitted"
        if not isinstance(body.get("max_tokens"), int):
            return "max_tokens: Field required"
        if any(not message["content"] for message in body["messages"]):
            return "messages: text content blocks must be non-empty"
        schema = body.get("output_config", {}).get("format", {}).get("schema")
        return None if schema is None else _schema_refusal(schema)


def _schema_refusal(schema: Any) -> str | None:
    strange = schema.keys() - ENFORCED
    if strange:
        return f"output_config.format.schema: {sorted(strange)[0]} is not supported"
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return "output_config.format.schema: 'additionalProperties' must be explicitly false"
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    inner += [schema["items"]] if "items" in schema else []
    return next((wrong for wrong in map(_schema_refusal, inner) if wrong), None)


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def _facts(model: Any) -> dict[str, Any]:
    base = {
        "type": "model",
        "display_name": "Scripted",
        "created_at": "2026-10-21T00:00:00Z",
        "lifecycle": "active",
        "max_tokens": MOST_TOKENS,
        "max_input_tokens": 200_000,
    }
    return base | model


def _message(reply: Reply, content: list[Any], stop: str | None) -> dict[str, Any]:
    return {
        "id": "msg_scripted_1",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "stop_details": reply.stop_details,
        "usage": reply.usage,
    }


def _blocks(reply: Reply) -> Iterator[dict[str, Any]]:
    for words, signature in reply.thoughts:
        yield {"type": "thinking", "thinking": words, "signature": signature}
    if reply.pieces:
        yield {"type": "text", "text": "".join(reply.pieces)}
    for call, name, arguments in reply.tool_calls:
        yield {"type": "tool_use", "id": call, "name": name, "input": json.loads(arguments)}


def _events(reply: Reply) -> Iterator[bytes]:
    begun = None if reply.usage is None else {**reply.usage, "output_tokens": 1}
    yield event("message_start", message=_message(reply, [], None) | {"usage": begun})
    yield event("ping")
    index = 0
    for words, signature in reply.thoughts:
        yield _start(index, {"type": "thinking", "thinking": "", "signature": ""})
        yield _delta(index, type="thinking_delta", thinking=words)
        yield _delta(index, type="signature_delta", signature=signature)
        yield event("content_block_stop", index=index)
        index += 1
    if reply.pieces:
        yield _start(index, {"type": "text", "text": ""})
        yield from (_delta(index, type="text_delta", text=piece) for piece in reply.pieces)
        yield event("content_block_stop", index=index)
        index += 1
    for call, name, arguments in reply.tool_calls:
        yield _start(index, {"type": "tool_use", "id": call, "name": name, "input": {}})
        middle = len(arguments) // 2
        for part in (arguments[:middle], arguments[middle:]):
            yield _delta(index, type="input_json_delta", partial_json=part)
        yield event("content_block_stop", index=index)
        index += 1
    ended = {"stop_reason": reply.stop, "stop_details": reply.stop_details, "stop_sequence": None}
    yield event("message_delta", delta=ended, usage=reply.usage)
    yield event("message_stop")


def _start(index: int, block: Mapping[str, Any]) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def _delta(index: int, **delta: Any) -> bytes:
    return event("content_block_delta", index=index, delta=delta)
