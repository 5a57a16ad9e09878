"""What stages before a local fake of a provider's server have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from dragoman_agents.models import ModelAdapter, ModelSettings, open_adapter
from tests.contract.models.acts import Act, CutOff, Fail, Garble, Refuse, Say
from tests.contract.models.stage import Stage
from tests.support.model_server import (
    Failure,
    ModelServer,
    Raw,
    Silence,
    broken_stream,
    stream_response,
)

KEY_VARIABLE = "CONTRACT_MODEL_KEY"


class ServedStage(Stage):
    """An adapter in front of a fake; a subclass says each act in its provider's words.

    Attributes:
        provider: The adapter's name in configuration.
        SETTINGS: What configuration says beside provider, address, model and key.
    """

    provider: ClassVar[str]
    SETTINGS: ClassVar[Mapping[str, Any]] = {"attachments": ("image", "file")}

    server: ModelServer[Any]

    @abstractmethod
    def make_server(self) -> ModelServer[Any]:
        """The fake, not yet started."""

    @abstractmethod
    def reply(self, act: Say) -> Any:
        """A healthy answer."""

    @abstractmethod
    def refusal(self, act: Refuse) -> Any:
        """The provider's way to decline."""

    @abstractmethod
    def failure(self, act: Fail) -> Failure:
        """The provider's documented answer for the failure."""

    @abstractmethod
    def garbled(self, echo: str) -> bytes:
        """An event that is no event; ``echo`` stands in it."""

    @abstractmethod
    def begun(self, piece: str) -> bytes:
        """The events of a stream that has said one piece."""

    async def __aenter__(self) -> Stage:
        self.server = self.make_server()
        await self.server.__aenter__()
        self.stalling, self.client_gone = self.server.stalling, self.server.client_gone
        self.adapter = self.opened()
        return self

    def opened(self) -> ModelAdapter:
        """The adapter, before the fake."""
        settings = ModelSettings(
            provider=self.provider,
            base_url=self.base_url(),
            model=self.MODEL,
            api_key_env=KEY_VARIABLE,
            **self.SETTINGS,
        )
        return open_adapter(settings, environment={KEY_VARIABLE: self.KEY})

    def base_url(self) -> str:
        """What configuration would say."""
        return self.server.base_url

    async def __aexit__(self, *error: object) -> None:
        await self.adapter.aclose()
        await self.server.__aexit__()

    def play(self, *acts: Act) -> None:
        self.server.answer_with(*(self.answer(act) for act in acts))

    def answer(self, act: Act) -> Any:
        """The act in the provider's wire format."""
        if isinstance(act, Say):
            return self.reply(act)
        if isinstance(act, Refuse):
            return self.refusal(act)
        if isinstance(act, Fail):
            return self.failure(act)
        if isinstance(act, Garble):
            return Raw(stream_response(self.garbled(act.echo)))
        if isinstance(act, CutOff):
            broken = broken_stream if act.in_a_chunk else stream_response
            return Raw(broken(self.begun(act.piece)))
        if act.piece is None:
            return Silence()
        return Raw(stream_response(self.begun(act.piece)), stall=True)

    @property
    def calls(self) -> int:
        return len(self.server.chats)

    async def close_server(self) -> None:
        await self.server.__aexit__()

    def sent(self) -> Any:
        return self.server.chats[-1].body

    def sent_headers(self) -> Mapping[str, str]:
        return self.server.chats[-1].headers


def retry_after(act: Fail) -> dict[str, str]:
    """The header that says how long to wait, where the act does."""
    return {} if act.retry_after is None else {"Retry-After": f"{act.retry_after:g}"}
