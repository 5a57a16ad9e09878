"""The adapter for models on Azure: Azure OpenAI, and Llama and others on Azure AI Foundry.

A deployment's name is the model. Without ``api_version`` the v1 form is spoken, which both kinds
of resource have; with it the classic form of Azure OpenAI. Either takes a key, or a token from
Microsoft Entra that a function of the user's gives.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, structs

from dragoman_agents.models.adapter import ProviderAdapter
from dragoman_agents.models.log_guard import guard_logs
from dragoman_agents.models.openai_client import client_options
from dragoman_agents.models.openai_compatible import OpenAICompatible, OpenAIOptions
from dragoman_agents.models.port import Request
from dragoman_agents.models.providers import address_of, import_sdk, read_key, read_options
from dragoman_agents.models.secrets import Secret
from dragoman_agents.models.settings import ModelSettings
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["AzureOpenAI", "AzureOptions", "TokenSource"]

TokenSource: TypeAlias = Callable[[], Awaitable[str]]
"""Gives a token that is valid now; asked before each call."""

V1_PATH = "/openai/v1"


class AzureOptions(OpenAIOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model.options]`` of models on Azure.

    Attributes:
        api_version: Speak the classic form of this version, as in ``2024-10-21``.
        token: ``package.module:function`` that gives a token instead of a key: an async function
            without parameters, such as ``azure.identity.aio.get_bearer_token_provider`` returns.
    """

    api_version: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?$")] | None = (
        None
    )
    token: Annotated[str, Meta(pattern=r"^[\w.]+:\w+$")] | None = None


class AzureOpenAI(OpenAICompatible):
    """A deployment of an Azure resource (a ``ModelAdapter``).

    Args:
        settings: ``base_url`` is the resource's address, ``model`` the deployment's name.
        environment: Where the key's variable is looked up; default: the process's own.
        token: Gives a token for each call, instead of a key.

    Raises:
        NotConfigured: the package ``openai``, the key, or the function ``options.token`` names is
            missing.
    """

    def __init__(
        self,
        settings: ModelSettings,
        *,
        environment: Mapping[str, str] | None = None,
        token: TokenSource | None = None,
    ) -> None:
        self._sdk = import_sdk(settings.provider, "openai")
        options = read_options(settings.options, AzureOptions)
        self._version = options.api_version
        self._token: Secret | None = None
        self._tokens = token or (_imported(options.token) if options.token else None)
        key = None if self._tokens else read_key(settings, environment)
        settings = structs.replace(settings, base_url=_address(settings, options))
        ProviderAdapter.__init__(self, settings, key=key)
        self._configure(key, options)

    def _make_client(self, key: Secret | None) -> Any:
        if self._version is None:
            return super()._make_client(key)
        # Given here, both headers keep the SDK from those that AZURE_OPENAI_* variables hold.
        self._headers["api-key"] = self._sdk.omit if key is None else key.reveal()
        self._headers["Authorization"] = self._sdk.omit
        options = client_options(self._sdk, self._address, key, self.settings.timeout_seconds)
        return self._sdk.AsyncAzureOpenAI(
            azure_endpoint=self._address, api_version=self._version, **options
        )

    async def _prepare(self, request: Request) -> None:
        await self._renew_token()
        await super()._prepare(request)

    async def _list(self, seconds: float) -> tuple[str, ...]:
        await self._renew_token()
        return await super()._list(seconds)

    async def _renew_token(self) -> None:
        """Take the token that is valid now, and mask it like a key."""
        if self._tokens is None:
            return
        value = await self._tokens()
        if self._token is None or self._token.reveal() != value:
            self._token = Secret(value)
            guard_logs(self._token)
            self._headers["Authorization"] = f"Bearer {value}"

    def _redacted(self, text: str) -> str:
        text = super()._redacted(text)
        return text if self._token is None else self._token.redact(text)


def _address(settings: ModelSettings, options: AzureOptions) -> str:
    """The resource's address as the chosen form needs it, however much of it was given."""
    address = (address_of(settings) or "").rstrip("/").removesuffix(V1_PATH).removesuffix("/openai")
    return address if options.api_version else f"{address}{V1_PATH}"


def _imported(reference: str) -> TokenSource:
    module, _, name = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
        unusable = not callable(found) or bool(inspect.signature(found).parameters)
    except (ImportError, AttributeError) as error:
        raise NotConfigured(f"options.token: there is no {reference} ({error})") from None
    if unusable:
        raise NotConfigured(f"options.token: {reference} is no function without parameters")
    source: TokenSource = found
    return source
