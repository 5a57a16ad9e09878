"""The adapter for Anthropic's Claude, by its Messages API and the official SDK.

The wire insists on an output limit: where neither the task nor configuration gives one, it is the
most that the model can write, asked of the API once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from dragoman_agents.models.anthropic_schemas import enforceable_schema
from dragoman_agents.models.anthropic_wire import MessageBuilder, message_arguments
from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.hosted import HostedAdapter
from dragoman_agents.models.port import Done, Event, Request, Result
from dragoman_agents.models.providers import (
    PROVIDERS,
    address_of,
    import_sdk,
    read_key,
    read_options,
)
from dragoman_agents.models.sdk_clients import custom_header_names, http_client
from dragoman_agents.models.secrets import Secret
from dragoman_agents.models.settings import ModelSettings

__all__ = ["Anthropic", "AnthropicOptions"]

CONNECT_SECONDS = 10.0

SAFE_TOKENS = 4096
"""What every model can write; for a server that does not tell what its model can."""


class AnthropicOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model.options]`` of Claude.

    Attributes:
        thinking: Whether the model thinks before it answers; default: as the model does by itself.
        effort: How much work it puts into an answer; default: the model's own.
    """

    thinking: Literal["adaptive", "disabled"] | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class Anthropic(HostedAdapter):
    """A Claude model (a ``ModelAdapter``).

    Args:
        settings: Which model, and which server if it is not Anthropic's own. The key is read here,
            once.
        environment: Where the key's variable is looked up; default: the process's own.

    Raises:
        NotConfigured: the package ``anthropic`` is missing, or the key.
    """

    def __init__(
        self, settings: ModelSettings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._sdk = import_sdk(settings.provider, "anthropic")
        key = read_key(settings, environment)
        super().__init__(settings, key=key)
        self._options = read_options(settings.options, AnthropicOptions)
        self._most_tokens: int | None = None
        address = (address_of(settings) or "").rstrip("/").removesuffix("/v1")
        self._headers = self._server_headers(address, key)
        self._client = self._make_client(address, key)

    def _make_client(self, address: str, key: Secret | None) -> Any:
        return self._sdk.AsyncAnthropic(
            # Given here, it keeps the SDK from every credential that it would find by itself.
            api_key="none" if key is None else key.reveal(),
            base_url=address,
            max_retries=0,
            timeout=self.settings.timeout_seconds,
            http_client=http_client(self._sdk, address),
            # The bus traces the call, and its trace travels with the request.
            open_telemetry=False,
        )

    def _server_headers(self, address: str, key: Secret | None) -> dict[str, Any]:
        """Headers of every request: the key, and what must not be sent left out."""
        omitted = self._sdk.omit
        own = urlsplit(address).hostname in PROVIDERS["anthropic"].key_hosts
        names = [] if own else custom_header_names("ANTHROPIC_CUSTOM_HEADERS")
        bearer = omitted if key is None else f"Bearer {key.reveal()}"
        # What the environment adds is for Anthropic only, and never another key.
        return dict.fromkeys([*names, "X-Api-Key"], omitted) | {"Authorization": bearer}

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    def _enforces(self, request: Request) -> bool:
        return super()._enforces(request) and self._schema(request) is not None

    def _schema(self, request: Request) -> dict[str, Any] | None:
        """The request's schema as the provider enforces it; ``None`` where it cannot."""
        if request.schema is None:
            return None
        return enforceable_schema(request.schema, self._sdk.transform_schema)

    async def _prepare(self, request: Request) -> None:
        if request.max_output_tokens is not None or self._most_tokens is not None:
            return
        try:
            facts = await self._client.models.retrieve(
                self.settings.model,
                timeout=self._timeout(self._seconds_left(request)),
                extra_headers=self._headers,
            )
            self._most_tokens = facts.max_tokens or SAFE_TOKENS
        except (self._sdk.NotFoundError, AttributeError):
            # A server that only imitates the API; or the model is gone, as the call itself says.
            self._most_tokens = SAFE_TOKENS

    async def _list(self, seconds: float) -> tuple[str, ...]:
        page = await self._client.models.list(
            timeout=self._timeout(seconds), extra_headers=self._headers
        )
        return tuple(str(model.id) for model in page.data)

    async def _ask(self, request: Request, seconds: float) -> Result:
        message = await self._client.messages.create(**self._arguments(request, seconds))
        builder = MessageBuilder(self.settings.model)
        builder.add_message(message)
        builder.add_request_id(message._request_id)
        return builder.result()

    async def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        builder = MessageBuilder(self.settings.model)
        pieces = await self._client.messages.create(
            **self._arguments(request, seconds), stream=True
        )
        try:
            async for piece in pieces:
                for event in builder.add_event(piece):
                    yield event
            builder.add_request_id(pieces.response.headers.get("request-id"))
        finally:
            await pieces.close()
        yield Done(builder.result())

    def _arguments(self, request: Request, seconds: float) -> dict[str, Any]:
        arguments = message_arguments(
            request, model=self.settings.model, most_tokens=self._most_tokens or SAFE_TOKENS
        )
        output: dict[str, Any] = {}
        schema = self._schema(request)
        if schema is not None:
            output["format"] = {"type": "json_schema", "schema": schema}
        if self._options.effort is not None:
            output["effort"] = self._options.effort
        if output:
            arguments["output_config"] = output
        if self._options.thinking is not None:
            arguments["thinking"] = {"type": self._options.thinking}
        return arguments | {
            "timeout": self._timeout(seconds),
            "extra_headers": {**request.headers, **self._headers},
        }

    def _timeout(self, seconds: float) -> Any:
        return self._sdk.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))

    def _explain(self, error: Exception) -> ModelError:
        from dragoman_agents.models.anthropic_failures import model_error

        return model_error(error, where=self.where)
