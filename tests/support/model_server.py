"""A local HTTP server that plays a model's provider: scripted answers, and what was asked.

``ModelServer`` knows connections, scripts, failures and silence; a subclass speaks one provider's
wire format. ``Raw`` sends any bytes, for what a healthy server never sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


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
class Failure:
    """An HTTP error with the provider's error body, or with any other text as body."""

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


Reply = TypeVar("Reply")
Script: TypeAlias = Reply | Failure | Raw | Silence


def stream_response(content: bytes) -> bytes:
    """A stream of events that ends with its connection."""
    return STREAM_HEAD + b"Connection: close\r\n\r\n" + content


def broken_stream(content: bytes) -> bytes:
    """A stream whose last chunk never comes, as when a server dies."""
    head = STREAM_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(content):x}\r\n".encode() + content + b"\r\n"


def json_response(status: int, body: Any, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole response; a text as body is a page and not JSON."""
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    kind = "text/html" if isinstance(body, str) else "application/json"
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


class ModelServer(ABC, Generic[Reply]):
    """Start with ``async with``. ``address`` is where it listens, without a path."""

    def __init__(self, *, models: Sequence[Any]) -> None:
        self.models: Sequence[Any] | Failure | Silence = models
        self.requests: list[Recorded] = []
        self.client_gone = asyncio.Event()
        self.stalling = asyncio.Event()
        self.asked = asyncio.Event()
        self._answers: deque[Script[Reply]] = deque()
        self._connections: set[asyncio.Task[None]] = set()

    @abstractmethod
    def is_call(self, request: Recorded) -> bool:
        """Whether the request asks the model."""

    @abstractmethod
    def listing(self, models: Sequence[Any], request: Recorded) -> bytes:
        """The response that lists the models."""

    @abstractmethod
    def reply(self, reply: Reply, request: Recorded) -> bytes:
        """The response for a healthy answer, whole or a stream as the request wishes."""

    @abstractmethod
    def echo(self, request: Recorded) -> Reply:
        """What is answered when the script is empty."""

    @abstractmethod
    def error_body(self, failure: Failure) -> Any:
        """The provider's body for a failure."""

    def answer_with(self, *answers: Script[Reply]) -> None:
        """Append to the script."""
        self._answers.extend(answers)

    @property
    def chats(self) -> list[Recorded]:
        """The calls of the model so far."""
        return [request for request in self.requests if self.is_call(request)]

    async def __aenter__(self) -> Any:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.address}/v1"
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
        answer: Script[Any] = self._next_answer(request) if self.is_call(request) else None
        if answer is None:
            answer = self.models if isinstance(self.models, Silence | Failure) else None
        if not isinstance(answer, Silence):
            writer.write(self._content(answer, request))
            await writer.drain()
        if isinstance(answer, Silence) or (isinstance(answer, Raw) and answer.stall):
            self.stalling.set()
            await reader.read(1)
            self.client_gone.set()

    def _next_answer(self, request: Recorded) -> Script[Reply]:
        return self._answers.popleft() if self._answers else self.echo(request)

    def _content(self, answer: Any, request: Recorded) -> bytes:
        if answer is None:
            assert not isinstance(self.models, Silence | Failure)
            return self.listing(self.models, request)
        if isinstance(answer, Raw):
            return answer.content
        if isinstance(answer, Failure):
            body = answer.error if isinstance(answer.error, str) else self.error_body(answer)
            return json_response(answer.status, body, answer.headers)
        return self.reply(answer, request)


async def _read_request(reader: asyncio.StreamReader) -> Recorded:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {}
    for line in head[1:]:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    content = await reader.readexactly(length)
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    body = content.decode() if is_form else json.loads(content) if content else None
    return Recorded(method, path, headers, body)
