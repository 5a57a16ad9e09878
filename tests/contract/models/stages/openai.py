"""Stages for everything that speaks OpenAI's Chat Completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dragoman_agents.models import ModelAdapter, ModelSettings, Usage
from dragoman_agents.models.azure import AzureOpenAI
from tests.contract.models.acts import Fail, Refuse, Say
from tests.contract.models.stage import Scenario, Stage
from tests.contract.models.stages.served import ServedStage, retry_after
from tests.support import responses_wire
from tests.support.model_server import Failure
from tests.support.openai_server import Answer, OpenAIServer, Reply, chunk, events

FAILURES: Mapping[str, tuple[int, dict[str, Any]]] = {
    "rate_limited": (429, {"message": "Rate limit reached", "code": "rate_limit_exceeded"}),
    "overloaded": (503, {"message": "The server is overloaded", "type": "server_error"}),
    "auth": (401, {"message": "Incorrect API key provided", "code": "invalid_api_key"}),
    "quota": (429, {"message": "You exceeded your quota", "code": "insufficient_quota"}),
    "invalid": (400, {"message": "Unknown parameter", "type": "invalid_request_error"}),
    "context_length": (400, {"message": "too long", "code": "context_length_exceeded"}),
    "unavailable": (404, {"message": "no such model", "code": "model_not_found"}),
}


class CompatibleStage(ServedStage):
    """The adapter ``openai-compatible``."""

    name = "openai-compatible"
    provider: ClassVar[str] = "openai-compatible"
    streams_by_default: ClassVar[bool] = False
    SETTINGS: ClassVar[Mapping[str, Any]] = {
        "attachments": ("image", "file"),
        "structured_output": True,
    }

    def make_server(self) -> OpenAIServer:
        return OpenAIServer(
            models=({"id": self.MODEL},), streams_by_default=self.streams_by_default
        )

    def refusal(self, act: Refuse) -> Answer:
        return Reply(pieces=(), refusal=act.words)

    def failure(self, act: Fail) -> Failure:
        status, error = FAILURES[act.kind]
        told = error | {"message": f"{error['message']} {act.echo}"}
        return Failure(status, told, retry_after(act))

    def garbled(self, echo: str) -> bytes:
        return events("{" + echo)

    def begun(self, piece: str) -> bytes:
        return events(chunk({"content": piece}))

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


class PromptedStage(CompatibleStage):
    """A server that does not enforce schemas: the model is told them in words."""

    name = "openai-compatible-prompted"
    SETTINGS: ClassVar[Mapping[str, Any]] = {
        "attachments": ("image", "file"),
        "structured_output": False,
    }


class OpenAIStage(CompatibleStage):
    """OpenAI's own Chat Completions."""

    name = "openai-chat"
    provider = "openai"
    SETTINGS: ClassVar[Mapping[str, Any]] = {"attachments": ("image", "file")}


class ResponsesStage(OpenAIStage):
    """OpenAI's Responses."""

    name = "openai-responses"
    SETTINGS: ClassVar[Mapping[str, Any]] = {
        "attachments": ("image", "file"),
        "options": {"api": "responses"},
    }

    def begun(self, piece: str) -> bytes:
        return events(responses_wire.text_event(piece))


class AzureStage(OpenAIStage):
    """Azure OpenAI, v1 form."""

    name = "azure-openai-v1"
    provider = "azure-openai"

    def base_url(self) -> str:
        return self.server.base_url.removesuffix("/v1")


class AzureClassicStage(AzureStage):
    """Azure OpenAI, classic form."""

    name = "azure-openai-classic"
    SETTINGS: ClassVar[Mapping[str, Any]] = {
        "attachments": ("image", "file"),
        "options": {"api_version": "2024-10-21"},
    }


class FoundryStage(AzureStage):
    """A Llama deployment on Azure AI Foundry."""

    name = "azure-foundry"
    provider = "azure-foundry"
    MODEL = "Llama-3.3-70B-Instruct"
    SETTINGS: ClassVar[Mapping[str, Any]] = {
        "attachments": ("image", "file"),
        "structured_output": False,
    }


class EntraStage(AzureStage):
    """Azure OpenAI with a token that a function gives, instead of a key."""

    name = "azure-openai-token"

    def opened(self) -> ModelAdapter:
        async def token() -> str:
            return self.KEY

        settings = ModelSettings(
            provider=self.provider, base_url=self.base_url(), model=self.MODEL, **self.SETTINGS
        )
        return AzureOpenAI(settings, environment={}, token=token)


class AppleServerStage(CompatibleStage):
    """A Mac's `fm serve`: streams unless told not to, no tools, filters answer with HTTP 500."""

    name = "apple-fm-server"
    provider = "apple-fm-server"
    streams_by_default = True
    SETTINGS: ClassVar[Mapping[str, Any]] = {}
    left_out: ClassVar[Mapping[Scenario, str]] = {
        "tools": "the server has no tools",
        "tool_result": "the server has no tools",
        "image": "the server takes no pictures",
        "file": "the server takes no files",
    }

    def refusal(self, act: Refuse) -> Answer:
        return Failure(500, {"message": f"Guardrail violation: {act.words}"})


STAGES: tuple[type[Stage], ...] = (
    CompatibleStage,
    PromptedStage,
    OpenAIStage,
    ResponsesStage,
    AzureStage,
    AzureClassicStage,
    FoundryStage,
    EntraStage,
    AppleServerStage,
)


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
