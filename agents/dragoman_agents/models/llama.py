"""The adapter for a GGUF model in this process: llama.cpp through the package ``xllamacpp``.

Requests go in by function call, not through the HTTP server that the package also starts: that
one goes on computing when a caller of a whole answer leaves, while a function call reports
progress at every batch of the prompt and at every token, and stops there when told to. What goes
in and comes out is the wire of OpenAI's Chat Completions, so it is read by the same code.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from dragoman_agents.models.adapter import ProviderAdapter
from dragoman_agents.models.errors import ModelError, ModelErrorKind
from dragoman_agents.models.gguf_header import GgufHeader, read_gguf_header
from dragoman_agents.models.llama_trial import try_to_load
from dragoman_agents.models.openai_wire import AnswerBuilder, chat_arguments
from dragoman_agents.models.port import Capability, Done, Event, Request, Result
from dragoman_agents.models.providers import import_sdk, read_options
from dragoman_agents.models.settings import ModelSettings
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

FilePath = Annotated[str, Meta(min_length=1)]
Few = Annotated[int, Meta(ge=1, le=256)]


class LlamaOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model.options]`` of the provider ``llama``.

    Attributes:
        path: The GGUF file.
        slots: Calls computed at once; each has a context of its own in memory.
        threads: Processor threads of one computation; default: the library's choice.
        gpu_layers: Layers that a graphics processor computes; default: the library's choice.
        trial: Whether the file is first loaded in a process of its own, because the native
            library ends the process on some bad files.
    """

    path: FilePath
    slots: Few = 2
    threads: Few | None = None
    gpu_layers: Annotated[int, Meta(ge=0, le=4096)] | None = None
    trial: bool = True


class Llama(ProviderAdapter):
    """A GGUF model in this process (a ``ModelAdapter``). Loading it blocks, for large files long.

    The context of a call is ``settings.context_window`` tokens; default: the model's own, at most
    8192.

    Args:
        settings: ``options.path`` names the file; ``model`` is what receipts call it.
        environment: Not used: a file needs no key.

    Raises:
        NotConfigured: the package ``xllamacpp`` is missing, or the file is missing or bad.
    """

    def __init__(
        self, settings: ModelSettings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(settings)
        self.options = read_options(settings.options, LlamaOptions)
        library = import_sdk("llama", "xllamacpp")
        self.path = Path(self.options.path).expanduser()
        self.header = read_gguf_header(self.path)
        if self.options.trial:
            try_to_load(str(self.path))
        self.context_window = settings.context_window or min(
            self.header.context_length, LONGEST_DEFAULT_CONTEXT
        )
        self._server: Any = _start(library, self)
        self._calls = ThreadedCalls(self.options.slots, "llama")

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text, streams and JSON Schema; tools where the file's chat template knows them."""
        capabilities: set[Capability] = {"text", "stream", "json_schema"}
        if _knows_tools(self.header):
            capabilities.add("tools")
        return frozenset(capabilities)

    @property
    def where(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def running(self) -> int:
        """How many calls compute now, those that were told to stop included."""
        return self._calls.running

    @property
    def port(self) -> int:
        """Where the library listens on this machine, for nobody: its key is random and unknown."""
        return urlsplit(self._loaded().listening_address).port or 0

    async def aclose(self) -> None:
        """Stop all calls and free the model's memory."""
        await self._calls.aclose()
        servers = [self._server]
        self._server = None
        # The last reference frees the model, which takes a while and must not hold up the loop.
        await asyncio.to_thread(servers.clear)

    async def _check_health(self, seconds: float) -> None:
        self._loaded()

    async def _ask(self, request: Request, seconds: float) -> Result:
        async with aclosing(self._open(request, seconds)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.result
        raise AssertionError("what was opened ends with Done or raises")

    async def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        builder = AnswerBuilder(self.settings.model)
        produce = partial(_compute, self._loaded(), self._body(request))
        async with aclosing(self._calls.stream(produce)) as chunks:
            async for chunk in chunks:
                if "error" in chunk:
                    raise _told_error(chunk["error"])
                for event in builder.add_chunk(_View.of(chunk)):
                    yield event
        yield Done(builder.result())

    def _explain(self, error: Exception) -> ModelError:
        what = f"{type(error).__name__}: {error}"
        return ModelError("internal", f"llama.cpp's answer cannot be understood ({what})")

    def _loaded(self) -> Any:
        if self._server is None:
            raise ModelError("unavailable", "the model was closed")
        return self._server

    def _body(self, request: Request) -> dict[str, Any]:
        model = self.settings.model
        arguments = chat_arguments(request, model=model, limit_parameter="max_tokens")
        # Progress reports are what a long prompt can be stopped at.
        return arguments | {
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
        }


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


def _compute(server: Any, body: dict[str, Any], offer: Offer[dict[str, Any]]) -> None:
    """In a thread: the chunks of one answer. The library swallows what a callback raises."""

    def take(chunk: dict[str, Any]) -> bool:
        return not offer(chunk)

    try:
        answer = server.handle_chat_completions(body, take)
    except (RuntimeError, ValueError) as error:
        # Raised before anything is computed: the library cannot read the request.
        raise ModelError("invalid", f"llama.cpp refuses the request: {error}") from None
    if answer is not None:
        offer(answer)


def _told_error(told: Mapping[str, Any]) -> ModelError:
    kind = KIND_BY_TYPE.get(str(told.get("type")), "internal")
    return ModelError(kind, str(told.get("message")))


def _knows_tools(header: GgufHeader) -> bool:
    return header.chat_template is not None and "tools" in header.chat_template


def _start(library: ModuleType, llama: Llama) -> Any:
    options = llama.options
    parameters = library.CommonParams()
    parameters.model.path = str(llama.path)
    parameters.model_alias = {llama.settings.model}
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
        raise NotConfigured(f"llama.cpp cannot run {llama.path}: {error}") from None
    return server
