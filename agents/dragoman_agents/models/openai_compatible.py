"""The adapter for every server that speaks OpenAI's Chat Completions, through the official SDK.

OpenAI itself, llama.cpp, Ollama, vLLM, LM Studio, OpenRouter: the same wire at another address.
The SDK's own retries are off, because only the bus retries; its reading of ``OPENAI_*`` variables
is undone for every server but OpenAI's, so that no key or account id goes to a stranger.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec import structs

from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.log_guard import guard_logs
from dragoman_agents.models.openai_wire import AnswerBuilder, LimitParameter, chat_arguments
from dragoman_agents.models.port import (
    Capability,
    Done,
    Event,
    Request,
    Result,
    ToolCallReady,
    remaining_seconds,
)
from dragoman_agents.models.secrets import Secret, read_secret
from dragoman_agents.models.settings import ModelSettings, is_loopback, is_openai
from dragoman_bus.protocol.errors import NotConfigured

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OpenAICompatible"]

Answer = TypeVar("Answer")

CONNECT_SECONDS = 10.0
HEALTH_SECONDS = 10.0
MESSAGE_SHOWN = 500

NO_KEY = "none"
"""The SDK insists on a key; without one of ours it is given this and told not to send it."""


class OpenAICompatible:
    """A model behind an OpenAI-compatible server (a ``ModelAdapter``).

    Args:
        settings: Which server and model. The key is read here, once.
        limit_parameter: How the server spells the output limit; default by the address.
        environment: Where ``api_key_env`` is looked up; default: the process's own.

    Raises:
        NotConfigured: the package ``openai`` is missing, or the key that settings name.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        limit_parameter: LimitParameter | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        sdk = _load_sdk()
        official = is_openai(settings.base_url)
        self.settings = settings
        self._limit_parameter: LimitParameter = limit_parameter or (
            "max_completion_tokens" if official else "max_tokens"
        )
        self._key = read_secret(
            variable=settings.api_key_env, file=settings.api_key_file, environment=environment
        )
        if self._key is not None:
            guard_logs(self._key)
        self._headers = {} if official else _without_ambient_headers(sdk.omit)
        # Otherwise the SDK would take OPENAI_API_KEY and send it wherever base_url points.
        self._headers["Authorization"] = (
            sdk.omit if self._key is None else f"Bearer {self._key.reveal()}"
        )
        self._client = _make_client(sdk, settings, self._key)

    @property
    def name(self) -> str:
        """``openai-compatible``."""
        return self.settings.provider

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text, streams and tools; JSON Schema unless configuration says otherwise."""
        capabilities: set[Capability] = {"text", "stream", "tools"}
        if self.settings.structured_output:
            capabilities.add("json_schema")
        return frozenset(capabilities)

    async def generate(self, request: Request) -> Result:
        """One call without streaming; see ``ModelAdapter.generate``."""

        async def call() -> Result:
            completion = await self._client.chat.completions.create(**self._arguments(request))
            builder = AnswerBuilder(request, self.settings.model)
            builder.add_completion(completion)
            return builder.result()

        return await self._guarded(call, self._seconds_left(request))

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """One streamed call; see ``ModelAdapter.stream``.

        Leaving the stream, or cancelling whoever reads it, closes the connection.
        """
        builder = AnswerBuilder(request, self.settings.model)
        request = self._with_deadline(request)

        async def read() -> list[Event] | None:
            chunk = await anext(chunks, None)
            return None if chunk is None else builder.add_chunk(chunk)

        async def finish() -> Result:
            return builder.result()

        chunks = await self._guarded(lambda: self._open(request), self._seconds_left(request))
        try:
            while (events := await self._guarded(read, self._seconds_left(request))) is not None:
                for event in events:
                    yield event
        finally:
            await chunks.close()
        result = await self._guarded(finish)
        for call in result.tool_calls:
            yield ToolCallReady(call)
        yield Done(result)

    async def health(self) -> None:
        """Ask the server for its models; see ``ModelAdapter.health``.

        That the list holds the configured model is not required: several servers list other
        names than those they accept.
        """
        await self.list_models()

    async def list_models(self, *, seconds: float = HEALTH_SECONDS) -> tuple[str, ...]:
        """The ids that ``/v1/models`` lists, in the server's order.

        Raises:
            ModelError: as ``health``.
        """

        async def call() -> tuple[str, ...]:
            page = await self._client.models.list(timeout=seconds, extra_headers=self._headers)
            return tuple(str(model.id) for model in page.data)

        return await self._guarded(call, seconds)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    def __repr__(self) -> str:
        return f"OpenAICompatible(model={self.settings.model!r} at {self.settings.base_url!r})"

    def _open(self, request: Request) -> Awaitable[Any]:
        return cast(
            "Awaitable[Any]",
            self._client.chat.completions.create(
                **self._arguments(request),
                stream=True,
                # Without it a streamed answer says nothing of the tokens it used.
                stream_options={"include_usage": True},
            ),
        )

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments = chat_arguments(
            request,
            model=self.settings.model,
            limit_parameter=self._limit_parameter,
            native_schema=self.settings.structured_output,
        )
        seconds = self._seconds_left(request)
        return arguments | {
            "timeout": _load_sdk().Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
            "extra_headers": {**request.headers, **self._headers},
        }

    def _seconds_left(self, request: Request) -> float:
        remaining = remaining_seconds(request)
        longest = self.settings.timeout_seconds
        return longest if remaining is None else min(remaining, longest)

    def _with_deadline(self, request: Request) -> Request:
        """The SDK's timeout bounds each read; a stream as a whole needs a fixed end."""
        return structs.replace(request, deadline=time.monotonic() + self._seconds_left(request))

    async def _guarded(
        self, call: Callable[[], Awaitable[Answer]], seconds: float | None = None
    ) -> Answer:
        """Await ``call``, at most ``seconds``; whatever it raises comes out as ``ModelError``."""
        try:
            if seconds is not None and seconds <= 0:
                raise TimeoutError
            async with asyncio.timeout(seconds):
                return await call()
        except Exception as error:  # noqa: BLE001 - no provider's type leaves the adapter
            failure = self._failure(error)
        # Raised out here, the failure drags no SDK exception along (its text may hold the key).
        raise failure

    def _failure(self, error: Exception) -> ModelError:
        from dragoman_agents.models.openai_failures import model_error

        found = model_error(error, where=self.settings.base_url)
        message = self._key.redact(found.message) if self._key else found.message
        return ModelError(
            found.kind,
            message if len(message) <= MESSAGE_SHOWN else f"{message[:MESSAGE_SHOWN]}…",
            retry_after=found.retry_after,
            status=found.status,
            provider=self.name,
            model=self.settings.model,
        )


def _load_sdk() -> ModuleType:
    """The ``openai`` package, imported on first use: half a second that others need not pay."""
    try:
        import openai
    except ImportError as error:
        raise NotConfigured(
            'the provider openai-compatible needs the package "openai" (3 or later): '
            'pip install "dragoman[openai]"'
        ) from error
    return openai


def _make_client(sdk: ModuleType, settings: ModelSettings, key: Secret | None) -> AsyncOpenAI:
    options: dict[str, Any] = {}
    if is_loopback(settings.base_url):
        # A proxy named by the environment cannot reach this machine's own servers.
        options["http_client"] = sdk.DefaultAsyncHttpxClient(trust_env=False)
    client = sdk.AsyncOpenAI(
        api_key=NO_KEY if key is None else key.reveal(),
        base_url=settings.base_url,
        max_retries=0,
        timeout=settings.timeout_seconds,
        **options,
    )
    return cast("AsyncOpenAI", client)


def _without_ambient_headers(omitted: Any) -> dict[str, Any]:
    """Header overrides that undo what the SDK takes from ``OPENAI_*`` variables."""
    names = ["OpenAI-Organization", "OpenAI-Project"]
    for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n"):
        name, colon, _ = line.partition(":")
        if colon and name.strip():
            names.append(name.strip())
    return dict.fromkeys(names, omitted)
