"""The adapter for Apple's Foundation Models on this Mac, through Apple's own SDK.

It needs macOS 26 or later with Apple Intelligence and the package ``apple-fm-sdk``. From any other
machine a Mac's server is reached over HTTP, by the provider ``apple-fm-server``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from types import ModuleType
from typing import Any

from dragoman_agents.models.adapter import ProviderAdapter
from dragoman_agents.models.errors import ModelError, ModelErrorKind
from dragoman_agents.models.port import Capability, Done, Event, Request, Result, TextDelta
from dragoman_agents.models.providers import import_sdk
from dragoman_agents.models.settings import ModelSettings
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["AppleOnDevice"]

PLATFORM = sys.platform

ELSEWHERE = (
    "Apple's model runs on a Mac only (macOS 26 or later with Apple Intelligence). From here, "
    'start `fm serve` or `apfel` on a Mac and set provider = "apple-fm-server" and '
    'base_url = "http://THE-MAC:1976/v1"; or run this '
    "agent on the Mac itself, and it joins the bus from there"
)

KIND_BY_ERROR: Mapping[str, ModelErrorKind] = {
    "AssetsUnavailableError": "unavailable",
    "ConcurrentRequestsError": "overloaded",
    "DecodingFailureError": "internal",
    "ExceededContextWindowSizeError": "context_length",
    "GuardrailViolationError": "refused",
    "InvalidGenerationSchemaError": "invalid",
    "RateLimitedError": "rate_limited",
    "RefusalError": "refused",
    "UnsupportedGuideError": "invalid",
    "UnsupportedLanguageOrLocaleError": "invalid",
}
"""By the name of the SDK's exception, so that nothing needs to be imported to know them."""

CAPABILITIES: frozenset[Capability] = frozenset({"text", "stream"})


class AppleOnDevice(ProviderAdapter):
    """The model of this Mac (a ``ModelAdapter``). Each call has a session of its own.

    Args:
        settings: ``model`` is only what receipts call it: there is one model.
        environment: Not used: the model needs no key.

    Raises:
        NotConfigured: this is no Mac, or the package ``apple-fm-sdk`` is missing.
    """

    def __init__(
        self, settings: ModelSettings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        if PLATFORM != "darwin":
            raise NotConfigured(ELSEWHERE)
        super().__init__(settings)
        self._sdk: ModuleType = import_sdk("apple", "apple_fm_sdk")
        self._model: Any = self._sdk.SystemLanguageModel()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text and streams."""
        return CAPABILITIES

    @property
    def where(self) -> str:
        """``this Mac's model``."""
        return "this Mac's model"

    async def aclose(self) -> None:
        """Nothing is kept between calls."""

    async def _check_health(self, seconds: float) -> None:
        available, reason = self._model.is_available()
        if not available:
            raise ModelError(
                "unavailable",
                f"Apple's model cannot be used ({_words(reason)}): turn Apple Intelligence on in "
                "System Settings and wait until its model is downloaded",
            )

    async def _ask(self, request: Request, seconds: float) -> Result:
        text = await self._session(request).respond(
            _prompt(request), options=self._options(request)
        )
        return self._result(str(text))

    async def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        whole = ""
        snapshots = self._session(request).stream_response(
            _prompt(request), options=self._options(request)
        )
        async with aclosing(snapshots):
            async for snapshot in snapshots:
                # Each is the answer so far, not what was added to it.
                added, whole = str(snapshot).removeprefix(whole), str(snapshot)
                if added:
                    yield TextDelta(added)
        yield Done(self._result(whole))

    def _explain(self, error: Exception) -> ModelError:
        name = type(error).__name__
        return ModelError(KIND_BY_ERROR.get(name, "internal"), f"{name}: {error}")

    def _session(self, request: Request) -> Any:
        make: Callable[..., Any] = self._sdk.LanguageModelSession
        return make(instructions=request.system, model=self._model)

    def _options(self, request: Request) -> Any:
        sampling = None
        if request.temperature == 0:
            sampling = self._sdk.SamplingMode.greedy()
        elif request.seed is not None:
            sampling = self._sdk.SamplingMode.random(seed=request.seed)
        return self._sdk.GenerationOptions(
            sampling=sampling,
            temperature=request.temperature or None,
            maximum_response_tokens=request.max_output_tokens,
        )

    def _result(self, text: str) -> Result:
        # The SDK tells neither tokens nor why it stopped.
        return Result(text=text, finish="stop", model=self.settings.model)


def _prompt(request: Request) -> str:
    """The last message; a longer conversation is told as one, since a session begins empty."""
    if len(request.messages) == 1:
        return request.messages[0].text
    return "\n\n".join(f"{message.role}: {message.text}" for message in request.messages)


def _words(reason: Any) -> str:
    return str(getattr(reason, "name", reason) or "no reason given").lower().replace("_", " ")
