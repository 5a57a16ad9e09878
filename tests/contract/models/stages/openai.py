"""Stages for everything that speaks OpenAI's Chat Completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dragoman_agents.models import ModelSettings, Usage, open_adapter
from tests.contract.models.acts import Act, CutOff, Fail, Garble, Refuse, Say, Stall
from tests.contract.models.stage import Stage
from tests.support.openai_server import (
    Answer,
    Failure,
    OpenAIServer,
    Raw,
    Reply,
    Silence,
    chunk,
    server_sent,
)

KEY_VARIABLE = "CONTRACT_MODEL_KEY"

FAILURES: Mapping[str, tuple[int, dict[str, Any]]] = {
    "rate_limited": (429, {"message": "Rate limit reached", "code": "rate_limit_exceeded"}),
    "overloaded": (503, {"message": "The server is overloaded", "type": "server_error"}),
    "auth": (401, {"message": "Incorrect API key provided", "code": "invalid_api_key"}),
    "quota": (429, {"message": "You exceeded your quota", "code": "insufficient_quota"}),
    "invalid": (400, {"message": "Unknown parameter", "type": "invalid_request_error"}),
    "context_length": (400, {"message": "too long", "code": "context_length_exceeded"}),
    "unavailable": (404, {"message": "no such model", "code": "model_not_found"}),
}


class CompatibleStage(Stage):
    """The adapter ``openai-compatible``."""

    name = "openai-compatible"
    SETTINGS: ClassVar[Mapping[str, Any]] = {"attachments": ("image", "file")}

    async def __aenter__(self) -> Stage:
        self.server = OpenAIServer(models=({"id": self.MODEL},))
        await self.server.__aenter__()
        self.stalling, self.client_gone = self.server.stalling, self.server.client_gone
        settings = ModelSettings(
            provider=self.name,
            base_url=self.server.base_url,
            model=self.MODEL,
            api_key_env=KEY_VARIABLE,
            **self.SETTINGS,
        )
        self.adapter = open_adapter(settings, environment={KEY_VARIABLE: self.KEY})
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.adapter.aclose()
        await self.server.__aexit__()

    def play(self, *acts: Act) -> None:
        self.server.answer_with(*(self.answer(act) for act in acts))

    @property
    def calls(self) -> int:
        return len(self.server.chats)

    async def close_server(self) -> None:
        await self.server.__aexit__()

    def sent(self) -> Any:
        return self.server.chats[-1].body

    def sent_headers(self) -> Mapping[str, str]:
        return self.server.chats[-1].headers

    def answer(self, act: Act) -> Answer:
        """The act in the wire format of Chat Completions."""
        if isinstance(act, Say):
            return self.reply(act)
        if isinstance(act, Refuse):
            return Reply(pieces=(), refusal=act.words)
        if isinstance(act, Fail):
            status, error = FAILURES[act.kind]
            told = error | {"message": f"{error['message']} {act.echo}"}
            wait = {} if act.retry_after is None else {"Retry-After": f"{act.retry_after:g}"}
            return Failure(status, told, wait)
        if isinstance(act, Garble):
            return Raw(server_sent("{" + act.echo))
        if isinstance(act, CutOff):
            return Raw(server_sent(chunk({"content": act.piece})))
        return _stall(act)

    def reply(self, act: Say) -> Reply:
        """A healthy answer."""
        finish = "length" if act.cut_at_limit else "tool_calls" if act.tool_calls else "stop"
        return Reply(
            pieces=act.pieces,
            finish=finish,
            tool_calls=[(call.id, call.name, (call.arguments,)) for call in act.tool_calls],
            usage=None if act.usage is None else _usage(act.usage),
            model=act.model or self.MODEL,
        )


def _stall(act: Stall) -> Answer:
    if act.piece is None:
        return Silence()
    return Raw(server_sent(chunk({"content": act.piece})), stall=True)


def _usage(usage: Usage) -> dict[str, Any]:
    told: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
    }
    if usage.cached_input_tokens is not None:
        told["prompt_tokens_details"] = {"cached_tokens": usage.cached_input_tokens}
    if usage.reasoning_tokens is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return told
