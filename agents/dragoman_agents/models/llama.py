"""The adapter for a GGUF model in this process: llama.cpp through the package ``xllamacpp``.

Requests go in by function call, not through the HTTP server that the package also starts: that
one goes on computing when a caller of a whole answer leaves, while a function call reports
progress at every batch of the prompt and at every token, and stops there when told to. What goes
in and comes out is the wire of OpenAI's Chat Completions, so it is read by the same code.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from dragoman_agents.models.errors import ModelError, ModelErrorKind
from dragoman_agents.models.gguf_header import GgufHeader, read_gguf_header
from dragoman_agents.models.llama_trial import try_to_load
from dragoman_agents.models.openai_wire import AnswerBuilder, chat_arguments
from dragoman_agents.models.port import (
    Capability,
    Done,
    Event,
    Request,
    Result,
    ToolCallReady,
    remaining_seconds,
)
from dragoman_agents.models.threaded import Offer, ThreadedCalls
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["Llama", "LlamaOptions"]

LONGEST_DEFAULT_CONTEXT = 8192
"""Memory for a context is taken when the model is loaded; more than this is asked for by name."""

KIND_BY_TYPE: Mapping[str, ModelErrorKind] = {
    "exceed_context_size_error": "context_length",
    "invalid_request_error": "invalid",
    "not_supported_error": "invalid",
    "unavailable_error": "overloaded",
}


class LlamaOptions(Struct, frozen=True, kw_only=True):
    """How a model file is run.

    Attributes:
        path: The GGUF file.
        model: What receipts call it; default: the name in the file, else the file's name.
        context_window: Tokens per call; default: the model's own, at most 8192.
        slots: Calls computed at once; each has a context of its own in memory.
        threads: Processor threads of one computation; default: the library's choice.
        gpu_layers: Layers that a graphics processor computes; default: the library's choice.
        timeout_seconds: The longest one call may take when it has no earlier deadline.
        trial: Whether the file is first loaded in a process of its own, because the native
            library ends the process on some bad files.
    """

    path: str
    model: str | None = None
    context_window: int | None = None
    slots: int = 2
    threads: int | None = None
    gpu_layers: int | None = None
    timeout_seconds: float = 300.0
    trial: bool = True


class Llama:
    """A GGUF model in this process (a ``ModelAdapter``). Loading it blocks, for large files long.

    Args:
        options: Which file, and how it is run.

    Raises:
        NotConfigured: the package ``xllamacpp`` is missing, or the file is missing or bad.
    """

    def __init__(self, options: LlamaOptions) -> None:
        library = _load_library()
        header = read_gguf_header(options.path)
        path = str(Path(options.path).expanduser())
        if options.trial:
            try_to_load(path)
        self.options = options
        self.header = header
        self.model = options.model or header.name or Path(path).stem
        self.context_window = options.context_window or min(
            header.context_length, LONGEST_DEFAULT_CONTEXT
        )
        self._server: Any = _start(library, path, self, options)
        self._calls = ThreadedCalls(options.slots, "llama")

    @property
    def name(self) -> str:
        """``llama``."""
        return "llama"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text, streams and JSON Schema; tools where the file's chat template knows them."""
        capabilities: set[Capability] = {"text", "stream", "json_schema"}
        if _knows_tools(self.header):
            capabilities.add("tools")
        return frozenset(capabilities)

    @property
    def running(self) -> int:
        """How many calls compute now, those that were told to stop included."""
        return self._calls.running

    @property
    def port(self) -> int:
        """Where the library listens on this machine, for nobody: its key is random and unknown."""
        return urlsplit(self._running().listening_address).port or 0

    async def generate(self, request: Request) -> Result:
        """The whole answer; see ``ModelAdapter.generate``. It stops at the next token."""
        async with aclosing(self.stream(request)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.result
        raise AssertionError("a stream ends with Done or raises")

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """The answer as it is computed; see ``ModelAdapter.stream``. Leaving it stops the work."""
        end = time.monotonic() + self._seconds(request)
        builder = AnswerBuilder(request, self.model)
        produce = partial(self._compute, self._body(request))
        async with aclosing(self._calls.stream(produce)) as chunks:
            while (chunk := await self._next(chunks, end)) is not None:
                for event in builder.add_chunk(_View.of(chunk)):
                    yield event
        try:
            result = builder.result()
        except ModelError as error:
            raise self._failure(error.kind, str(error)) from None
        for call in result.tool_calls:
            yield ToolCallReady(call)
        yield Done(result)

    async def health(self) -> None:
        """Return while the model is loaded; see ``ModelAdapter.health``."""
        self._running()

    async def aclose(self) -> None:
        """Stop all calls and free the model's memory."""
        await self._calls.aclose()
        servers = [self._server]
        self._server = None
        # The last reference frees the model, which takes a while and must not hold up the loop.
        await asyncio.to_thread(servers.clear)

    def __repr__(self) -> str:
        return f"Llama(model={self.model!r} from {self.options.path!r})"

    def _running(self) -> Any:
        if self._server is None:
            raise self._failure("unavailable", "the model was closed")
        return self._server

    def _seconds(self, request: Request) -> float:
        remaining = remaining_seconds(request)
        longest = self.options.timeout_seconds
        return longest if remaining is None else min(remaining, longest)

    def _body(self, request: Request) -> dict[str, Any]:
        self._running()
        if request.tools and not _knows_tools(self.header):
            raise self._failure("invalid", "the chat template of this model knows no tools")
        arguments = chat_arguments(request, model=self.model, limit_parameter="max_tokens")
        # Progress reports are what a long prompt can be stopped at.
        return arguments | {
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
        }

    def _compute(self, body: dict[str, Any], offer: Offer[dict[str, Any]]) -> None:
        """In a thread: the chunks of one answer. The library swallows what a callback raises."""

        def take(chunk: dict[str, Any]) -> bool:
            return not offer(chunk)

        answer = self._running().handle_chat_completions(body, take)
        if answer is not None:
            offer(answer)

    async def _next(
        self, chunks: AsyncGenerator[dict[str, Any], None], end: float
    ) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise self._failure("timeout", "the model did not answer in time") from None
        except (RuntimeError, ValueError) as error:
            # Raised before anything is computed: the library cannot read the request.
            raise self._failure("invalid", f"llama.cpp refuses the request: {error}") from None
        if chunk is not None and "error" in chunk:
            told = chunk["error"]
            kind = KIND_BY_TYPE.get(str(told.get("type")), "internal")
            raise self._failure(kind, str(told.get("message")))
        return chunk

    def _failure(self, kind: ModelErrorKind, message: str) -> ModelError:
        return ModelError(kind, message, provider=self.name, model=self.model)


class _View(dict[str, Any]):
    """A JSON object whose members are attributes, ``None`` where missing, as an SDK's would be."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    @classmethod
    def of(cls, value: Any) -> Any:
        """``value`` with every object in it turned into a view."""
        if isinstance(value, dict):
            return cls({name: cls.of(member) for name, member in value.items()})
        return [cls.of(item) for item in value] if isinstance(value, list) else value


def _knows_tools(header: GgufHeader) -> bool:
    return header.chat_template is not None and "tools" in header.chat_template


def _load_library() -> ModuleType:
    try:
        import xllamacpp
    except ImportError as error:
        raise NotConfigured(
            'the provider llama needs the package "xllamacpp": pip install "dragoman[llama]"'
        ) from error
    module: ModuleType = xllamacpp
    return module


def _start(library: ModuleType, path: str, llama: Llama, options: LlamaOptions) -> Any:
    parameters = library.CommonParams()
    parameters.model.path = path
    parameters.model_alias = {llama.model}
    parameters.n_parallel = options.slots
    parameters.n_ctx = llama.context_window * options.slots
    parameters.warmup = False
    parameters.verbosity = -1
    if options.threads is not None:
        parameters.cpuparams.n_threads = options.threads
    if options.gpu_layers is not None:
        parameters.n_gpu_layers = options.gpu_layers
    # The package listens on a port of this machine whether wanted or not: nobody knows its key.
    parameters.api_keys = [secrets.token_urlsafe(32)]
    parameters.n_threads_http = 1
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.endpoint_props = False
    try:
        server = library.Server(parameters)
        # A server that has answered can be ended; one that has just begun blocks for ever.
        server.handle_chat_completions(
            {"messages": [{"role": "user", "content": ""}], "max_tokens": 1}
        )
    except (RuntimeError, ValueError) as error:
        raise NotConfigured(f"llama.cpp cannot run {path}: {error}") from None
    return server
