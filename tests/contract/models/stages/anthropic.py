"""The stage for Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dragoman_agents.models import ModelSettings, Usage, open_adapter
from tests.contract.models.acts import Act, CutOff, Fail, Garble, Refuse, Say
from tests.contract.models.stage import Stage
from tests.support.anthropic_server import AnthropicServer, Reply, beginning
from tests.support.model_server import (
    Failure,
    Raw,
    Silence,
    broken_stream,
    stream_response,
)

KEY_VARIABLE = "CONTRACT_MODEL_KEY"

FAILURES: Mapping[str, tuple[int, str, str]] = {
    "rate_limited": (429, "rate_limit_error", "This request would exceed your rate limit"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "auth": (401, "authentication_error", "invalid bearer token"),
    "quota": (402, "billing_error", "There is an issue with your payment method"),
    "invalid": (400, "invalid_request_error", "messages: at least one message is required"),
    "context_length": (
        400,
        "invalid_request_error",
        "prompt is too long: 208310 tokens > 200000 maximum",
    ),
    "unavailable": (404, "not_found_error", "model: claude-gone"),
}


class AnthropicStage(Stage):
    """The adapter ``anthropic``."""

    name = "anthropic"

    async def __aenter__(self) -> Stage:
        self.server = AnthropicServer(models=({"id": self.MODEL},), key=self.KEY)
        await self.server.__aenter__()
        self.stalling, self.client_gone = self.server.stalling, self.server.client_gone
        settings = ModelSettings(
            provider="anthropic",
            base_url=self.server.base_url,
            model=self.MODEL,
            api_key_env=KEY_VARIABLE,
            attachments=("image", "file"),
        )
        self.adapter = open_adapter(settings, environment={KEY_VARIABLE: self.KEY})
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.adapter.aclose()
        await self.server.__aexit__()

    def play(self, *acts: Act) -> None:
        self.server.answer_with(*(self._answer(act) for act in acts))

    @property
    def calls(self) -> int:
        return len(self.server.chats)

    async def close_server(self) -> None:
        await self.server.__aexit__()

    def sent(self) -> Any:
        return self.server.chats[-1].body

    def sent_headers(self) -> Mapping[str, str]:
        return self.server.chats[-1].headers

    def _answer(self, act: Act) -> Reply | Failure | Raw | Silence:
        if isinstance(act, Say):
            return self._reply(act)
        if isinstance(act, Refuse):
            details = {"type": "refusal", "category": "bio", "explanation": act.words}
            return Reply(pieces=(), stop="refusal", stop_details=details)
        if isinstance(act, Fail):
            status, kind, message = FAILURES[act.kind]
            wait = {} if act.retry_after is None else {"Retry-After": f"{act.retry_after:g}"}
            return Failure(status, {"type": kind, "message": f"{message} {act.echo}"}, wait)
        if isinstance(act, Garble):
            return Raw(stream_response(f"event: message_start\ndata: {{{act.echo}\n\n".encode()))
        if isinstance(act, CutOff):
            broken = broken_stream if act.in_a_chunk else stream_response
            return Raw(broken(beginning(act.piece)))
        if act.piece is None:
            return Silence()
        return Raw(stream_response(beginning(act.piece)), stall=True)

    def _reply(self, act: Say) -> Reply:
        stop = "max_tokens" if act.cut_at_limit else "tool_use" if act.tool_calls else "end_turn"
        return Reply(
            pieces=act.pieces,
            stop=stop,
            tool_calls=[(call.id, call.name, call.arguments) for call in act.tool_calls],
            usage=None if act.usage is None else _usage(act.usage),
            model=act.model or self.MODEL,
        )


STAGES: tuple[type[Stage], ...] = (AnthropicStage,)


def _usage(usage: Usage) -> dict[str, Any]:
    cached = usage.cached_input_tokens or 0
    told: dict[str, Any] = {
        "input_tokens": (usage.input_tokens or 0) - cached,
        "output_tokens": usage.output_tokens,
    }
    if usage.cached_input_tokens is not None:
        told["cache_read_input_tokens"] = cached
    if usage.reasoning_tokens is not None:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return told
