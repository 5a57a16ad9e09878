"""A local server that speaks OpenAI's wire format, does what a test tells it, and remembers.

Each call to ``/v1/chat/completions`` takes the next scripted answer, or says what it was asked.
An answer is whole or a stream as the request wishes. ``Raw`` sends any bytes, for what a healthy
server never sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.support import responses_wire

MODEL = "tiny-llama-1b"


@dataclass(frozen=True)
class Recorded:
    """One request as it came in; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def place(self) -> str:
        """The last part of the path."""
        return self.path.partition("?")[0].rpartition("/")[2]


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


@dataclass(frozen=True)
class Failure:
    """An HTTP error with an OpenAI error body, or with any other text as body."""

    status: int
    error: Mapping[str, Any] | str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """Exactly these bytes; then the connection is closed, or kept open in silence."""

    content: bytes
    stall: bool = False


@dataclass(frozen=True)
class Silence:
    """Nothing, until the client goes away."""


Answer: TypeAlias = Reply | Failure | Raw | Silence


def server_sent(*events: Any) -> bytes:
    """The head of a stream's response and these events; a text event is sent as it is."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return head + b"".join(f"data: {text}\n\n".encode() for text in texts)


def chunk(delta: Mapping[str, Any] | None, finish: str | None = None, **rest: Any) -> Any:
    """One event of a stream; without a delta, one without choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    kind = "chat.completion.chunk"
    base = {"id": "chat-1", "object": kind, "created": 1, "model": MODEL, "choices": choices}
    return base | rest


class OpenAIServer:
    """Start with ``async with``. ``base_url`` is what a client is given."""

    def __init__(
        self, *, models: Sequence[Any] = ({"id": MODEL},), streams_by_default: bool = False
    ) -> None:
        self._streams_by_default = streams_by_default
        self.models: Sequence[Any] | Failure | Silence = models
        self.requests: list[Recorded] = []
        self.client_gone = asyncio.Event()
        self.stalling = asyncio.Event()
        self.asked = asyncio.Event()
        self._answers: deque[Answer] = deque()
        self._connections: set[asyncio.Task[None]] = set()

    def answer_with(self, *answers: Answer) -> None:
        """Append to the script."""
        self._answers.extend(answers)

    @property
    def chats(self) -> list[Recorded]:
        """The chat requests so far."""
        return [one for one in self.requests if one.place in ("completions", "responses")]

    async def __aenter__(self) -> OpenAIServer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in tuple(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.client_gone.set()
        finally:
            self._connections.discard(connection)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read_request(reader)
        self.requests.append(request)
        self.asked.set()
        if request.place == "models" and not isinstance(self.models, Silence):
            await _send(writer, self._models_answer())
            return
        answer = self._next_answer(request)
        streamed = bool((request.body or {}).get("stream", self._streams_by_default))
        async for content in _contents(answer, request, streamed):
            await _send(writer, content)
        if isinstance(answer, Silence) or (isinstance(answer, Raw) and answer.stall):
            self.stalling.set()
            await reader.read(1)
            self.client_gone.set()

    def _next_answer(self, request: Recorded) -> Answer:
        if request.place == "models" and isinstance(self.models, Silence):
            return self.models
        return self._answers.popleft() if self._answers else _echo(request)

    def _models_answer(self) -> bytes:
        assert not isinstance(self.models, Silence)
        if isinstance(self.models, Failure):
            return _failure(self.models)
        base = {"object": "model", "created": 1, "owned_by": "test"}
        listed = [base | model for model in self.models]
        return _json_response(200, {"object": "list", "data": listed})


async def _read_request(reader: asyncio.StreamReader) -> Recorded:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {}
    for line in head[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    body = json.loads(await reader.readexactly(length)) if length else None
    return Recorded(method, path, headers, body)


async def _send(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(content)
    await writer.drain()


async def _contents(answer: Answer, request: Recorded, streamed: bool) -> AsyncIterator[bytes]:
    if isinstance(answer, Raw):
        yield answer.content
    elif isinstance(answer, Failure):
        yield _failure(answer)
    elif isinstance(answer, Reply):
        if request.place == "responses":
            yield _responses(answer, streamed=streamed)
        else:
            yield _stream(answer) if streamed else _json_response(200, _completion(answer))


def _echo(request: Recorded) -> Reply:
    said = request.body["messages" if "messages" in request.body else "input"][-1]["content"]
    return Reply(pieces=("You said: ", str(said)))


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
        return _json_response(200, whole)
    return server_sent(*responses_wire.events(reply.pieces, whole))


def _failure(failure: Failure) -> bytes:
    body = failure.error if isinstance(failure.error, str) else {"error": failure.error}
    return _json_response(failure.status, body, failure.headers)


def _json_response(status: int, body: Any, headers: Mapping[str, str] | None = None) -> bytes:
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    kind = "text/html" if isinstance(body, str) else "application/json"
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


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
