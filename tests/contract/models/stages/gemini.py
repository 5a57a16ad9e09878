"""The stage for Gemini's generateContent API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from dragoman_agents.models import ModelSettings, Usage, open_adapter
from tests.contract.models.acts import Act, CutOff, Fail, Garble, Refuse, Say
from tests.contract.models.stage import Stage
from tests.support.gemini_server import (
    GeminiServer,
    Reply,
    VertexServer,
    events,
    saying,
    write_service_account,
)
from tests.support.model_server import (
    Failure,
    Raw,
    Silence,
    broken_stream,
    stream_response,
)

KEY_VARIABLE = "CONTRACT_MODEL_KEY"

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


class GeminiStage(Stage):
    """The adapter ``gemini``."""

    name = "gemini"

    async def __aenter__(self) -> Stage:
        self.server = GeminiServer(models=({"name": f"models/{self.MODEL}"},), key=self.KEY)
        await self.server.__aenter__()
        self.stalling, self.client_gone = self.server.stalling, self.server.client_gone
        settings = ModelSettings(
            provider="gemini",
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
            return Reply(pieces=(), finish="SAFETY", finish_message=act.words)
        if isinstance(act, Fail):
            status, name, message, detail = FAILURES[act.kind]
            details = [dict(detail)] if detail else []
            if act.retry_after is not None:
                details.append({"@type": RETRY, "retryDelay": f"{act.retry_after:g}s"})
            told = {"status": name, "message": f"{message} {act.echo}", "details": details}
            return Failure(status, told)
        if isinstance(act, Garble):
            return Raw(stream_response(events("{" + act.echo)))
        if isinstance(act, CutOff):
            broken = broken_stream if act.in_a_chunk else stream_response
            return Raw(broken(events(saying(act.piece))))
        if act.piece is None:
            return Silence()
        return Raw(stream_response(events(saying(act.piece))), stall=True)

    def _reply(self, act: Say) -> Reply:
        return Reply(
            pieces=act.pieces,
            finish="MAX_TOKENS" if act.cut_at_limit else "STOP",
            tool_calls=[(call.id, call.name, call.arguments) for call in act.tool_calls],
            usage=None if act.usage is None else _usage(act.usage),
            model=act.model or self.MODEL,
        )


class VertexStage(GeminiStage):
    """The adapter ``gemini-vertex`` with a service account; its token must not be shown."""

    name = "gemini-vertex"

    async def __aenter__(self) -> Stage:
        self.server = VertexServer(token=self.KEY)
        await self.server.__aenter__()
        self.stalling, self.client_gone = self.server.stalling, self.server.client_gone
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory()))
        write_service_account(folder / "account.json", self.server.address)
        named = {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "account.json")}
        self.stack.enter_context(mock.patch.dict(os.environ, named))
        settings = ModelSettings(
            provider="gemini-vertex",
            base_url=self.server.base_url,
            model=self.MODEL,
            attachments=("image", "file"),
            options={"project": "our-project", "location": "europe-west4"},
        )
        self.adapter = open_adapter(settings, environment={})
        return self

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
