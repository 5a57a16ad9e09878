"""What all adapters share: the deadline, errors without secrets, streams that close, schemas.

An adapter for one provider says how to call it (``_ask``, ``_open``), what its failures mean
(``_explain``) and what it can do; everything else is here, so that all behave alike.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from msgspec import structs

from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.log_guard import guard_logs
from dragoman_agents.models.port import (
    Capability,
    Done,
    Event,
    Request,
    Result,
    TextDelta,
    ToolCallReady,
    remaining_seconds,
)
from dragoman_agents.models.providers import address_of
from dragoman_agents.models.secrets import Secret
from dragoman_agents.models.settings import ModelSettings
from dragoman_agents.models.structured import fit_schema, request_to_send
from dragoman_agents.models.wire_values import WholeCharacters, whole_characters

__all__ = ["HEALTH_SECONDS", "ProviderAdapter"]

Answer = TypeVar("Answer")

HEALTH_SECONDS = 10.0
MESSAGE_SHOWN = 500
LONGEST_NAME = 256
"""Characters of a model's name that a receipt takes."""
DEADLINE_SLACK_SECONDS = 0.05
"""An SDK's own timeout may fire so much before the deadline from which it was computed."""


class ProviderAdapter(ABC):
    """Base of the adapters (a ``ModelAdapter``).

    Args:
        settings: Which model, and for how long a call may take at most.
        key: Masked in every error and in the logs of the HTTP libraries.
    """

    def __init__(self, settings: ModelSettings, *, key: Secret | None = None) -> None:
        self.settings = settings
        self._key = key
        if key is not None:
            guard_logs(key)

    @property
    def name(self) -> str:
        """The provider, as configuration spells it."""
        return self.settings.provider

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[Capability]:
        """What it can do; see ``ModelAdapter.capabilities``."""

    @property
    def where(self) -> str:
        """What errors call the provider: its address, without secrets."""
        return address_of(self.settings) or self.name

    @abstractmethod
    async def _ask(self, request: Request, seconds: float) -> Result:
        """One call: text, tool calls, usage, served model; ``data`` is not looked at.

        ``request.schema`` is set only where ``json_schema`` is among the capabilities.
        """

    @abstractmethod
    def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        """One streamed call: ``TextDelta`` events and a ``Done`` with a result as ``_ask`` gives.

        Closing the generator must close the connection. ``ToolCallReady`` is made from ``Done``.
        """

    @abstractmethod
    def _explain(self, error: Exception) -> ModelError:
        """What an exception of the two means; its message need not be free of secrets."""

    @abstractmethod
    async def _check_health(self, seconds: float) -> None:
        """A cheap call that fails when the provider cannot be used."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close all connections; see ``ModelAdapter.aclose``."""

    async def _prepare(self, request: Request) -> None:  # noqa: B027 - most have nothing to do
        """Find out what must be known before ``request`` is sent; nothing, by default."""

    async def generate(self, request: Request) -> Result:
        """See ``ModelAdapter.generate``."""
        with _deadline_told(request):
            request = self._checked(request)
            await self._guarded(lambda: self._prepare(request), request)
            native = self._enforces(request)
            answer = await self._once(request_to_send(request, native=native))
            return await self._fitting(request, answer, native=native)

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """See ``ModelAdapter.stream``. A repaired answer comes with ``Done``, not in pieces."""
        with _deadline_told(request):
            async with aclosing(self._streamed(self._checked(request))) as events:
                async for event in events:
                    yield event

    async def _streamed(self, request: Request) -> AsyncGenerator[Event, None]:
        await self._guarded(lambda: self._prepare(request), request)
        native = self._enforces(request)
        sent = request_to_send(request, native=native)
        answer: Result | None = None
        characters = WholeCharacters()
        events = self._open(sent, self._seconds_left(sent))
        try:
            while event := await self._guarded(lambda: anext(events, None), request):
                if isinstance(event, Done):
                    answer = _sound(event.result)
                elif not isinstance(event, TextDelta):
                    yield event
                elif text := characters.take(event.text):
                    yield TextDelta(text)
        finally:
            await events.aclose()
        if answer is None:
            raise self._told(
                ModelError("unreachable", "the stream broke off before the answer was complete")
            )
        if rest := characters.rest():
            yield TextDelta(rest)
        answer = await self._fitting(request, answer, native=native)
        for call in answer.tool_calls:
            yield ToolCallReady(call)
        yield Done(answer)

    async def health(self) -> None:
        """See ``ModelAdapter.health``."""
        await self._guarded(lambda: self._check_health(HEALTH_SECONDS), seconds=HEALTH_SECONDS)

    def _enforces(self, request: Request) -> bool:
        """Whether the provider enforces this request's schema; else the model is told it."""
        return request.schema is not None and "json_schema" in self.capabilities

    async def _once(self, request: Request) -> Result:
        answer = await self._guarded(
            lambda: self._ask(request, self._seconds_left(request)), request
        )
        return _sound(answer)

    async def _fitting(self, request: Request, answer: Result, *, native: bool) -> Result:
        try:
            return await fit_schema(request, answer, self._once, native=native)
        except ModelError as error:
            failure = self._told(error)
        raise failure

    def _seconds_left(self, request: Request) -> float:
        remaining = remaining_seconds(request)
        longest = self.settings.timeout_seconds
        return longest if remaining is None else min(remaining, longest)

    def _checked(self, request: Request) -> Request:
        """``request`` with a deadline; what the model cannot take is refused, never dropped.

        SDK timeouts bound each read; a call as a whole, with its repair, needs a fixed end.
        """
        needed: set[Capability] = {"tools"} if request.tools else set()
        for message in request.messages:
            needed |= {"image" if part.is_image else "file" for part in message.attachments}
        lacking = sorted(needed - self.capabilities)
        if lacking:
            what = " or ".join(lacking)
            wrong = f"the model {self.where} takes no {what}, by its configuration"
            raise self._told(ModelError("invalid", wrong))
        return structs.replace(request, deadline=time.monotonic() + self._seconds_left(request))

    async def _guarded(
        self,
        call: Callable[[], Awaitable[Answer]],
        request: Request | None = None,
        *,
        seconds: float | None = None,
    ) -> Answer:
        """Await ``call`` within its time; whatever it raises comes out as ``ModelError``."""
        if request is not None:
            seconds = self._seconds_left(request)
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
        if isinstance(error, TimeoutError):
            return self._told(ModelError("timeout", f"{self.where} did not answer in time"))
        return self._told(error if isinstance(error, ModelError) else self._explain(error))

    def _told(self, error: ModelError) -> ModelError:
        """``error`` without secrets, of bearable length, and with who was asked."""
        message = self._redacted(error.message)
        return ModelError(
            error.kind,
            message if len(message) <= MESSAGE_SHOWN else f"{message[:MESSAGE_SHOWN]}…",
            retry_after=error.retry_after,
            status=error.status,
            provider=self.name,
            model=self.settings.model,
            code=error.code,
            usage=error.usage,
        )

    def _redacted(self, text: str) -> str:
        return text if self._key is None else self._key.redact(text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.settings.model!r} at {self.where!r})"


def _sound(answer: Result) -> Result:
    """``answer`` as a message can carry it."""
    return structs.replace(
        answer, text=whole_characters(answer.text), model=answer.model[:LONGEST_NAME]
    )


@contextmanager
def _deadline_told(request: Request) -> Iterator[None]:
    """Let a call that had no more time than its caller left end with ``DEADLINE_EXCEEDED``.

    ``MODEL_TIMEOUT`` says that the model took longer than it may: whoever keeps account of models
    would blame this one for a caller's impatience.
    """
    try:
        yield
    except ModelError as error:
        left = remaining_seconds(request)
        is_local = error.kind == "timeout" and error.status is None
        if is_local and left is not None and left <= DEADLINE_SLACK_SECONDS:
            error.code = "DEADLINE_EXCEEDED"
        raise
