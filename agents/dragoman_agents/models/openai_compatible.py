"""The adapter for every server that speaks OpenAI's wire, through the official SDK.

OpenAI itself, llama.cpp, Ollama, vLLM, LM Studio, OpenRouter, a Mac: one wire at other addresses,
with differences that ``openai_profiles`` holds as data. Chat Completions is the wire that all of
them have; ``options.api = "responses"`` chooses OpenAI's newer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

from msgspec import Struct, structs

from dragoman_agents.models.adapter import HEALTH_SECONDS
from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.hosted import HostedAdapter
from dragoman_agents.models.openai_client import client_options, headers_for
from dragoman_agents.models.openai_probe import TOKENS, ServerFacts, enforces, schema_question
from dragoman_agents.models.openai_profiles import PROFILES, LimitParameter
from dragoman_agents.models.openai_responses import ResponseBuilder, response_arguments
from dragoman_agents.models.openai_schemas import is_strict_schema
from dragoman_agents.models.openai_wire import AnswerBuilder, chat_arguments
from dragoman_agents.models.port import Capability, Done, Event, Request, Result
from dragoman_agents.models.providers import address_of, import_sdk, read_key, read_options
from dragoman_agents.models.secrets import Secret
from dragoman_agents.models.settings import ModelSettings

__all__ = ["OpenAICompatible", "OpenAIOptions"]

CONNECT_SECONDS = 10.0


class OpenAIOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model.options]`` of OpenAI and its like.

    Attributes:
        api: The wire: Chat Completions, or Responses where the server has it.
        limit_parameter: How Chat Completions spell the output limit; default: by the provider.
    """

    api: Literal["chat", "responses"] = "chat"
    limit_parameter: LimitParameter | None = None


class OpenAICompatible(HostedAdapter):
    """A model behind a server that speaks OpenAI's wire (a ``ModelAdapter``).

    Args:
        settings: Which server and model. The key is read here, once.
        environment: Where the key's variable is looked up; default: the process's own.

    Raises:
        NotConfigured: the package ``openai`` is missing, or the key that settings name.
    """

    def __init__(
        self, settings: ModelSettings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._sdk = import_sdk(settings.provider, "openai")
        key = read_key(settings, environment)
        super().__init__(settings, key=key)
        self._configure(key, read_options(settings.options, OpenAIOptions))

    def _configure(self, key: Secret | None, options: OpenAIOptions) -> None:
        self._profile = PROFILES[self.settings.provider]
        self._api = options.api
        self._limit_parameter = options.limit_parameter or self._profile.limit_parameter
        self._facts: ServerFacts | None = None
        self._probing = asyncio.Lock()
        self._address = address_of(self.settings) or ""
        self._headers = headers_for(self._sdk, self._address, key)
        self._client = self._make_client(key)

    def _make_client(self, key: Secret | None) -> Any:
        options = client_options(self._sdk, self._address, key, self.settings.timeout_seconds)
        return self._sdk.AsyncOpenAI(base_url=self._address, **options)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text and streams; the rest by configuration, profile, and what the server showed."""
        capabilities: set[Capability] = {"text", "stream", *self.settings.attachments}
        if self._profile.tools:
            capabilities.add("tools")
        if self._schemas is not False:
            capabilities.add("json_schema")
        return frozenset(capabilities)

    @property
    def _schemas(self) -> bool | None:
        """Whether schemas are enforced: as configured, as known, as found out; else unknown."""
        if self.settings.structured_output is not None:
            return self.settings.structured_output
        if self._profile.schemas is not None:
            return self._profile.schemas
        return None if self._facts is None else self._facts.schemas

    async def probe(self, *, seconds: float = HEALTH_SECONDS) -> ServerFacts:
        """What the server really supports. Asked once, with a call of a few tokens, and kept.

        Raises:
            ModelError: the server cannot be asked.
        """
        return await self._guarded(lambda: self._probe(seconds), seconds=seconds)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _prepare(self, request: Request) -> None:
        if request.schema is not None and self._schemas is None:
            await self._probe(self._seconds_left(request))

    def _enforces(self, request: Request) -> bool:
        if self._profile.object_schemas and (request.schema or {}).get("type") != "object":
            return False
        if self._profile.strict_schemas and not is_strict_schema(request.schema):
            return False
        return super()._enforces(request)

    async def _list(self, seconds: float) -> tuple[str, ...]:
        page = await self._client.models.list(timeout=seconds, extra_headers=self._headers)
        return tuple(str(model.id) for model in page.data)

    async def _probe(self, seconds: float) -> ServerFacts:
        async with self._probing:
            if self._facts is None:
                self._facts = ServerFacts(
                    models=await self._listed(seconds), schemas=await self._takes_schemas(seconds)
                )
            return self._facts

    async def _listed(self, seconds: float) -> tuple[str, ...] | None:
        try:
            return await self._list(seconds)
        except self._sdk.NotFoundError:
            return None

    async def _takes_schemas(self, seconds: float) -> bool:
        question = schema_question() | {
            "model": self.settings.model,
            "stream": False,
            self._limit_parameter: TOKENS,
        }
        try:
            completion = await self._client.chat.completions.create(
                **question, timeout=seconds, extra_headers=self._headers
            )
        except (self._sdk.BadRequestError, self._sdk.UnprocessableEntityError):
            return False
        builder = AnswerBuilder(self.settings.model)
        builder.add_completion(completion)
        return enforces(builder.result().text)

    async def _ask(self, request: Request, seconds: float) -> Result:
        if self._api == "responses":
            arguments = self._response_arguments(request, seconds)
            answer = ResponseBuilder(self.settings.model)
            answer.add_response(await self._client.responses.create(**arguments))
            return answer.result()
        arguments = self._chat_arguments(request, seconds)
        if self._profile.explicit_stream:
            arguments["stream"] = False
        builder = AnswerBuilder(self.settings.model)
        builder.add_completion(await self._client.chat.completions.create(**arguments))
        return builder.result()

    async def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        builder: AnswerBuilder | ResponseBuilder
        if self._api == "responses":
            builder = ResponseBuilder(self.settings.model)
            arguments = self._response_arguments(request, seconds)
            pieces = await self._client.responses.create(**arguments, stream=True)
        else:
            builder = AnswerBuilder(self.settings.model)
            arguments = self._chat_arguments(request, seconds)
            # Without the option a streamed answer says nothing of the tokens it used.
            pieces = await self._client.chat.completions.create(
                **arguments, stream=True, stream_options={"include_usage": True}
            )
        try:
            async for piece in pieces:
                for event in builder.add_chunk(piece):
                    yield event
        finally:
            await pieces.close()
        yield Done(builder.result())

    def _chat_arguments(self, request: Request, seconds: float) -> dict[str, Any]:
        if not self._profile.seed:
            request = structs.replace(request, seed=None)
        arguments = chat_arguments(
            request, model=self.settings.model, limit_parameter=self._limit_parameter
        )
        return arguments | self._call_options(request, seconds)

    def _response_arguments(self, request: Request, seconds: float) -> dict[str, Any]:
        arguments = response_arguments(request, model=self.settings.model)
        return arguments | self._call_options(request, seconds)

    def _call_options(self, request: Request, seconds: float) -> dict[str, Any]:
        return {
            "timeout": self._sdk.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
            "extra_headers": {**request.headers, **self._headers},
        }

    def _explain(self, error: Exception) -> ModelError:
        from dragoman_agents.models.openai_failures import model_error

        found = model_error(error, where=self.where)
        refusal = self._profile.refusal
        if refusal is None or found.status is None or found.status < 500:
            return found
        if not refusal.search(found.message):
            return found
        return ModelError("refused", found.message, status=found.status)
