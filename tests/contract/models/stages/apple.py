"""A stage for Apple's model on a Mac, before a stand-in for its SDK."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar
from unittest import mock

from dragoman_agents.models import ModelSettings, apple, open_adapter
from tests.contract.models.acts import Act, Fail, Refuse, Say, Stall
from tests.contract.models.stage import Scenario, Stage
from tests.support.apple_sdk import AppleSdk, Pieces

ERRORS: Mapping[str, str] = {
    "overloaded": "ConcurrentRequestsError",
    "invalid": "UnsupportedGuideError",
    "context_length": "ExceededContextWindowSizeError",
    "unavailable": "AssetsUnavailableError",
}


class AppleOnDeviceStage(Stage):
    """The adapter ``apple`` on a Mac."""

    name = "apple-on-device"
    left_out: ClassVar[Mapping[Scenario, str]] = {
        "tools": "its tools are code inside the SDK",
        "tool_result": "without tools there is no answer of a tool",
        "image": "the adapter sends text only",
        "file": "the adapter sends text only",
        "headers": "nothing travels: the model is in this machine",
        "limits": "the SDK does not say why an answer ended",
        "usage": "the SDK does not tell tokens",
        "schema_repair": "it sums tokens, which the SDK does not tell; its own tests repair",
        "served_model": "the SDK does not name its model",
        "rate_limited": "the SDK does not say how long to wait",
        "auth": "the model needs no key",
        "quota": "the model costs nothing",
        "unreachable": "there is no server to lose",
        "malformed": "there is no wire format",
        "cut_off": "there is no connection to lose",
        "no_secret": "the model needs no key",
    }

    async def __aenter__(self) -> Stage:
        self.sdk = AppleSdk()
        self.stalling, self.client_gone = self.sdk.stalling, self.sdk.canceled
        self.patches = ExitStack()
        self.patches.enter_context(mock.patch.dict(sys.modules, {"apple_fm_sdk": self.sdk}))
        self.patches.enter_context(mock.patch.object(apple, "PLATFORM", "darwin"))
        self.adapter = open_adapter(ModelSettings(provider="apple", model=self.MODEL))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.adapter.aclose()
        self.patches.close()

    def play(self, *acts: Act) -> None:
        self.sdk.answers.extend(self._answer(act) for act in acts)

    @property
    def calls(self) -> int:
        return len(self.sdk.asked)

    async def close_server(self) -> None:
        raise NotImplementedError

    def sent(self) -> Any:
        asked = self.sdk.asked[-1]
        return {"instructions": asked["instructions"], "prompt": asked["prompt"]}

    def _answer(self, act: Act) -> Pieces | Exception:
        if isinstance(act, Say):
            return Pieces(act.pieces)
        if isinstance(act, Stall):
            return Pieces(() if act.piece is None else (act.piece,), stalls=True)
        if isinstance(act, Fail):
            return self._error(ERRORS[act.kind], act.kind)
        assert isinstance(act, Refuse)
        return self._error("RefusalError", act.words)

    def _error(self, name: str, words: str) -> Exception:
        made = getattr(self.sdk, name)(words)
        assert isinstance(made, Exception)
        return made


STAGES: tuple[type[Stage], ...] = (AppleOnDeviceStage,)
