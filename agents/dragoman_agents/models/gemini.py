"""The adapter for Google's Gemini, by generateContent and the official SDK.

The SDK is given a client of ours: it would choose between two HTTP libraries by what is installed,
and one of them tries again by itself.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import AsyncGenerator, Mapping
from contextvars import ContextVar
from typing import Any, Literal

from msgspec import Struct

from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.gemini_wire import ContentBuilder, content_arguments
from dragoman_agents.models.hosted import HostedAdapter
from dragoman_agents.models.port import Done, Event, Request, Result
from dragoman_agents.models.providers import address_of, import_sdk, read_key, read_options
from dragoman_agents.models.sdk_clients import client_facts
from dragoman_agents.models.secrets import Secret
from dragoman_agents.models.settings import ModelSettings

__all__ = ["Gemini", "GeminiOptions"]

OPENED: ContextVar[list[Any] | None] = ContextVar("OPENED", default=None)
"""Where the response of the call that is being opened is noted.

A stream of the SDK is generators in generators: closing the outermost leaves the response, and so
its connection, open until the innermost is collected.
"""

VERSION = re.compile(r"/v[0-9]+[a-z0-9]*$")


class GeminiOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model.options]`` of Gemini.

    Attributes:
        thinking: How much the model thinks before it answers; default: as the model does by itself.
    """

    thinking: Literal["minimal", "low", "medium", "high"] | None = None


class Gemini(HostedAdapter):
    """A Gemini model (a ``ModelAdapter``).

    Args:
        settings: Which model, and which server if it is not Google's own. The key is read here,
            once.
        environment: Where the key's variable is looked up; default: the process's own.

    Raises:
        NotConfigured: the package ``google-genai`` is missing, or the key.
    """

    def __init__(
        self, settings: ModelSettings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._sdk = import_sdk(settings.provider, "google.genai")
        key = read_key(settings, environment)
        super().__init__(settings, key=key)
        self._options = self._read_options()
        address = (address_of(settings) or "").rstrip("/")
        self._address = address if VERSION.search(address) else f"{address}/v1"
        self._http = importlib.import_module("httpx2").AsyncClient(
            timeout=settings.timeout_seconds,
            event_hooks={"response": [_note_response]},
            **client_facts(address),
        )
        self._client = self._make_client(key)

    def _read_options(self) -> GeminiOptions:
        return read_options(self.settings.options, GeminiOptions)

    def _make_client(self, key: Secret | None) -> Any:
        # Each argument keeps the SDK from what the environment would say instead.
        return self._sdk.Client(
            vertexai=False,
            api_key="none" if key is None else key.reveal(),
            **self._client_options(),
        )

    def _client_options(self) -> dict[str, Any]:
        return {
            "http_options": {
                "base_url": self._address,
                "api_version": "",
                "httpx_async_client": self._http,
            }
        }

    def _generates(self, model: Any) -> bool:
        return "generateContent" in (model.supported_actions or ())

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()
        self._client.close()

    def _enforces(self, request: Request) -> bool:
        # Models before Gemini 3 refuse a schema beside tools.
        return not request.tools and super()._enforces(request)

    async def _list(self, seconds: float) -> tuple[str, ...]:
        page = await self._client.aio.models.list(
            config={"page_size": 1000, "http_options": self._http_options({}, seconds)}
        )
        return tuple(
            str(model.name).rpartition("/")[2] for model in page.page if self._generates(model)
        )

    async def _ask(self, request: Request, seconds: float) -> Result:
        builder = ContentBuilder(self.settings.model)
        arguments = self._arguments(request, seconds)
        builder.add_response(await self._client.aio.models.generate_content(**arguments))
        return builder.result()

    async def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        builder = ContentBuilder(self.settings.model)
        arguments = self._arguments(request, seconds)
        pieces = await self._client.aio.models.generate_content_stream(**arguments)
        responses: list[Any] = []
        opening = OPENED.set(responses)
        try:
            piece = await anext(pieces, None)
        finally:
            OPENED.reset(opening)
        try:
            while piece is not None:
                for event in builder.add_piece(piece):
                    yield event
                piece = await anext(pieces, None)
        finally:
            for response in responses:
                await response.aclose()
            await pieces.aclose()
        yield Done(builder.result())

    def _arguments(self, request: Request, seconds: float) -> dict[str, Any]:
        arguments = content_arguments(request, model=self.settings.model)
        config = arguments["config"]
        config["http_options"] = self._http_options(request.headers, seconds)
        if self._options.thinking is not None:
            config["thinking_config"] = {"thinking_level": self._options.thinking}
        return arguments

    def _http_options(self, headers: Mapping[str, str], seconds: float) -> dict[str, Any]:
        return {"headers": dict(headers), "timeout": max(1, math.ceil(seconds * 1000))}

    def _explain(self, error: Exception) -> ModelError:
        from dragoman_agents.models.gemini_failures import model_error

        return model_error(error, where=self.where)


async def _note_response(response: Any) -> None:
    opened = OPENED.get()
    if opened is not None:
        opened.append(response)
