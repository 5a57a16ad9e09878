"""The stages for Gemini's generateContent API, Google's own and on Vertex AI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from dragoman_agents.models import ModelAdapter, ModelSettings, Usage, open_adapter
from tests.contract.models.acts import Fail, Refuse, Say
from tests.contract.models.stage import Stage
from tests.contract.models.stages.served import ServedStage
from tests.support.gemini_server import (
    GeminiServer,
    Reply,
    VertexServer,
    events,
    saying,
    write_service_account,
)
from tests.support.model_server import Failure

INFO = "type.googleapis.com/google.rpc.ErrorInfo"
RETRY = "type.googleapis.com/google.rpc.RetryInfo"

FAILURES: Mapping[str, tuple[int, str, str, Mapping[str, Any]]] = {
    "rate_limited": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", {}),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded", {}),
    "auth": (
        400,
        "INVALID_ARGUMENT",
        "API key not valid",
        {"@type": INFO, "reason": "API_KEY_INVALID"},
    ),
    "quota": (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted", {}),
    "invalid": (400, "INVALID_ARGUMENT", "Request contains an invalid argument", {}),
    "context_length": (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        {},
    ),
    "unavailable": (404, "NOT_FOUND", "models/gemini-gone is not found", {}),
}


class GeminiStage(ServedStage):
    """The adapter ``gemini``."""

    name = "gemini"
    provider = "gemini"

    def make_server(self) -> GeminiServer:
        return GeminiServer(models=({"name": f"models/{self.MODEL}"},), key=self.KEY)

    def reply(self, act: Say) -> Reply:
        return Reply(
            pieces=act.pieces,
            finish="MAX_TOKENS" if act.cut_at_limit else "STOP",
            tool_calls=[(call.id, call.name, call.arguments) for call in act.tool_calls],
            usage=None if act.usage is None else _usage(act.usage),
            model=act.model or self.MODEL,
        )

    def refusal(self, act: Refuse) -> Reply:
        return Reply(pieces=(), finish="SAFETY", finish_message=act.words)

    def failure(self, act: Fail) -> Failure:
        status, name, message, detail = FAILURES[act.kind]
        details = [dict(detail)] if detail else []
        if act.retry_after is not None:
            details.append({"@type": RETRY, "retryDelay": f"{act.retry_after:g}s"})
        return Failure(
            status, {"status": name, "message": f"{message} {act.echo}", "details": details}
        )

    def garbled(self, echo: str) -> bytes:
        return events("{" + echo)

    def begun(self, piece: str) -> bytes:
        return events(saying(piece))


class VertexStage(GeminiStage):
    """The adapter ``gemini-vertex`` with a service account; its token must not be shown."""

    name = "gemini-vertex"
    provider = "gemini-vertex"

    def make_server(self) -> VertexServer:
        return VertexServer(token=self.KEY)

    def opened(self) -> ModelAdapter:
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory()))
        write_service_account(folder / "account.json", self.server.address)
        named = {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "account.json")}
        self.stack.enter_context(mock.patch.dict(os.environ, named))
        settings = ModelSettings(
            provider=self.provider,
            base_url=self.base_url(),
            model=self.MODEL,
            options={"project": "our-project", "location": "europe-west4"},
            **self.SETTINGS,
        )
        return open_adapter(settings, environment={})

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__()
        self.stack.close()


STAGES: tuple[type[Stage], ...] = (GeminiStage, VertexStage)


def _usage(usage: Usage) -> dict[str, Any]:
    thoughts = usage.reasoning_tokens or 0
    told: dict[str, Any] = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": (usage.output_tokens or 0) - thoughts,
        "totalTokenCount": (usage.input_tokens or 0) + (usage.output_tokens or 0),
    }
    if usage.cached_input_tokens is not None:
        told["cachedContentTokenCount"] = usage.cached_input_tokens
    if usage.reasoning_tokens is not None:
        told["thoughtsTokenCount"] = thoughts
    return told
