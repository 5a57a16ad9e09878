"""The stage for Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dragoman_agents.models import Usage
from tests.contract.models.acts import Fail, Refuse, Say
from tests.contract.models.stage import Stage
from tests.contract.models.stages.served import ServedStage, retry_after
from tests.support.anthropic_server import AnthropicServer, Reply, beginning
from tests.support.model_server import Failure

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


class AnthropicStage(ServedStage):
    """The adapter ``anthropic``."""

    name = "anthropic"
    provider = "anthropic"

    def make_server(self) -> AnthropicServer:
        return AnthropicServer(models=({"id": self.MODEL},), key=self.KEY)

    def reply(self, act: Say) -> Reply:
        stop = "max_tokens" if act.cut_at_limit else "tool_use" if act.tool_calls else "end_turn"
        return Reply(
            pieces=act.pieces,
            stop=stop,
            tool_calls=[(call.id, call.name, call.arguments) for call in act.tool_calls],
            usage=None if act.usage is None else _usage(act.usage),
            model=act.model or self.MODEL,
        )

    def refusal(self, act: Refuse) -> Reply:
        details = {"type": "refusal", "category": "bio", "explanation": act.words}
        return Reply(pieces=(), stop="refusal", stop_details=details)

    def failure(self, act: Fail) -> Failure:
        status, kind, message = FAILURES[act.kind]
        told = {"type": kind, "message": f"{message} {act.echo}"}
        return Failure(status, told, retry_after(act))

    def garbled(self, echo: str) -> bytes:
        return f"event: message_start\ndata: {{{echo}\n\n".encode()

    def begun(self, piece: str) -> bytes:
        return beginning(piece)


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
