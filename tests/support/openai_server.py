"""A local server that speaks OpenAI's wire format, does what a test tells it, and remembers.

Each call to ``/v1/chat/completions`` or ``/v1/responses`` takes the next scripted answer, or says
what it was asked. An answer is whole or a stream as the request wishes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.support import responses_wire
from tests.support.model_server import (
    Failure,
    ModelServer,
    Raw,
    Recorded,
    Silence,
    json_response,
    stream_response,
)

__all__ = [
    "MODEL",
    "Answer",
    "Failure",
    "OpenAIServer",
    "Raw",
    "Recorded",
    "Reply",
    "Silence",
    "chunk",
    "events",
    "server_sent",
]

MODEL = "tiny-llama-1b"


@dataclass(frozen=True)
class Reply:
    """A healthy answer."""

    pieces: Sequence[str] = ("Hello", " world")
    finish: str | None = "stop"
    refusal: str | None = None
    tool_calls: Sequence[tuple[str | None, str, Sequence[str]]] = ()
    usage: Mapping[str, Any] | None = field(
        default_factory=lambda: {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    )
    model: str = MODEL


Answer: TypeAlias = Reply | Failure | Raw | Silence


def server_sent(*sent: Any) -> bytes:
    """A stream's response with these events; a text event is sent as it is."""
    return stream_response(events(*sent))


def events(*sent: Any) -> bytes:
    """These events of a stream, without the response's head."""
    texts = (event if isinstance(event, str) else json.dumps(event) for event in sent)
    return b"".join(f"data: {text}\n\n".encode() for text in texts)


def chunk(delta: Mapping[str, Any] | None, finish: str | None = None, **rest: Any) -> Any:
    """One event of a stream; without a delta, one without choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    kind = "chat.completion.chunk"
    base = {"id": "chat-1", "object": kind, "created": 1, "model": MODEL, "choices": choices}
    return base | rest


class OpenAIServer(ModelServer[Reply]):
    """Start with ``async with``. ``base_url`` is what a client is given."""

    def __init__(
        self, *, models: Sequence[Any] = ({"id": MODEL},), streams_by_default: bool = False
    ) -> None:
        super().__init__(models=models)
        self._streams_by_default = streams_by_default

    def is_call(self, request: Recorded) -> bool:
        return request.place != "models"

    def listing(self, models: Sequence[Any], request: Recorded) -> bytes:
        base = {"object": "model", "created": 1, "owned_by": "test"}
        return json_response(200, {"object": "list", "data": [base | model for model in models]})

    def reply(self, reply: Reply, request: Recorded) -> bytes:
        streamed = bool((request.body or {}).get("stream", self._streams_by_default))
        if request.place == "responses":
            return _responses(reply, streamed=streamed)
        return _stream(reply) if streamed else json_response(200, _completion(reply))

    def echo(self, request: Recorded) -> Reply:
        last = request.body["messages" if "messages" in request.body else "input"][-1]
        said = last.get("content", last.get("output"))
        return Reply(pieces=("You said: ", str(said)))

    def error_body(self, failure: Failure) -> Any:
        return {"error": failure.error}


def _responses(reply: Reply, *, streamed: bool) -> bytes:
    whole = responses_wire.response(
        list(reply.pieces),
        model=reply.model,
        finish=reply.finish,
        refusal=reply.refusal,
        tool_calls=reply.tool_calls,
        usage=reply.usage,
    )
    if not streamed:
        return json_response(200, whole)
    return server_sent(*responses_wire.events(reply.pieces, whole))


def _completion(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.pieces)}
    if reply.refusal is not None:
        message["refusal"] = reply.refusal
    if reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": call,
                "type": "function",
                "function": {"name": name, "arguments": "".join(parts)},
            }
            for call, name, parts in reply.tool_calls
        ]
    choices = [{"index": 0, "message": message, "finish_reason": reply.finish}]
    body = {"id": "chat-1", "object": "chat.completion", "created": 1, "model": reply.model}
    return body | {"choices": choices, "usage": reply.usage}


def _stream(reply: Reply) -> bytes:
    events: list[Any] = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": piece}) for piece in reply.pieces]
    if reply.refusal is not None:
        events.append(chunk({"refusal": reply.refusal}))
    for index, (call, name, parts) in enumerate(reply.tool_calls):
        head = {"index": index, "id": call, "type": "function"}
        events.append(chunk({"tool_calls": [head | {"function": {"name": name}}]}))
        events += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
            for part in parts
        ]
    events.append(chunk({}, reply.finish))
    if reply.usage is not None:
        events.append(chunk(None, usage=reply.usage))
    events = [event | {"model": reply.model} for event in events]
    return server_sent(*events, "[DONE]")
