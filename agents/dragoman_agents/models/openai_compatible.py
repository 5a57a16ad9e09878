"""The adapter for every server that speaks OpenAI's Chat Completions, through the official SDK.

OpenAI itself, llama.cpp, Ollama, vLLM, LM Studio, OpenRouter: the same wire at another address.
The SDK's own retries are off, because only the bus retries; its reading of ``OPENAI_*`` variables
is undone for every server but OpenAI's, so that no key or account id goes to a stranger.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from dragoman_agents.models.adapter import HEALTH_SECONDS, ProviderAdapter
from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.openai_wire import AnswerBuilder, LimitParameter, chat_arguments
from dragoman_agents.models.port import Capability, Done, Event, Request, Result
from dragoman_agents.models.providers import import_sdk
from dragoman_agents.models.secrets import Secret, read_secret
from dragoman_agents.models.settings import ModelSettings, is_loopback, is_openai

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OpenAICompatible"]

CONNECT_SECONDS = 10.0

NO_KEY = "none"
"""The SDK insists on a key; without one of ours it is given this and told not to send it."""


class OpenAICompatible(ProviderAdapter):
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
        sdk = import_sdk(settings.provider, "openai")
        key = read_secret(
            variable=settings.api_key_env, file=settings.api_key_file, environment=environment
        )
        super().__init__(settings, key=key)
        self._sdk = sdk
        self._address = settings.base_url or ""
        official = is_openai(self._address)
        self._limit_parameter: LimitParameter = limit_parameter or (
            "max_completion_tokens" if official else "max_tokens"
        )
        self._headers = {} if official else _without_ambient_headers(sdk.omit)
        # Otherwise the SDK would take OPENAI_API_KEY and send it wherever base_url points.
        self._headers["Authorization"] = sdk.omit if key is None else f"Bearer {key.reveal()}"
        self._client = _make_client(sdk, settings, self._address, key)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text, streams and tools; JSON Schema and attachments as configuration says."""
        capabilities: set[Capability] = {"text", "stream", "tools", *self.settings.attachments}
        if self.settings.structured_output:
            capabilities.add("json_schema")
        return frozenset(capabilities)

    async def list_models(self, *, seconds: float = HEALTH_SECONDS) -> tuple[str, ...]:
        """The ids that ``/v1/models`` lists, in the server's order.

        Raises:
            ModelError: as ``health``.
        """

        async def call() -> tuple[str, ...]:
            page = await self._client.models.list(timeout=seconds, extra_headers=self._headers)
            return tuple(str(model.id) for model in page.data)

        return await self._guarded(call, seconds=seconds)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _check_health(self, seconds: float) -> None:
        # That the list holds the configured model is not required: several servers list other
        # names than those they accept.
        await self.list_models(seconds=seconds)

    async def _ask(self, request: Request, seconds: float) -> Result:
        completion = await self._client.chat.completions.create(**self._arguments(request, seconds))
        builder = AnswerBuilder(self.settings.model)
        builder.add_completion(completion)
        return builder.result()

    async def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        builder = AnswerBuilder(self.settings.model)
        chunks = cast(
            "Any",
            await self._client.chat.completions.create(
                **self._arguments(request, seconds),
                stream=True,
                # Without it a streamed answer says nothing of the tokens it used.
                stream_options={"include_usage": True},
            ),
        )
        try:
            async for chunk in chunks:
                for event in builder.add_chunk(chunk):
                    yield event
        finally:
            await chunks.close()
        yield Done(builder.result())

    def _arguments(self, request: Request, seconds: float) -> dict[str, Any]:
        arguments = chat_arguments(
            request, model=self.settings.model, limit_parameter=self._limit_parameter
        )
        return arguments | {
            "timeout": self._sdk.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
            "extra_headers": {**request.headers, **self._headers},
        }

    def _explain(self, error: Exception) -> ModelError:
        from dragoman_agents.models.openai_failures import model_error

        return model_error(error, where=self.where)


def _make_client(
    sdk: ModuleType, settings: ModelSettings, address: str, key: Secret | None
) -> AsyncOpenAI:
    options: dict[str, Any] = {}
    if is_loopback(address):
        # A proxy named by the environment cannot reach this machine's own servers.
        options["http_client"] = sdk.DefaultAsyncHttpxClient(trust_env=False)
    client = sdk.AsyncOpenAI(
        api_key=NO_KEY if key is None else key.reveal(),
        base_url=address,
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
