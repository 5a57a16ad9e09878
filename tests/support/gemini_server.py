"""A local server that speaks Gemini's generateContent wire as it is documented.

It refuses what the real one refuses, such as a tool call that comes back without its signature,
so that a wrong request fails the test that makes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.model_server import (
    Failure,
    ModelServer,
    Recorded,
    json_response,
    stream_response,
)

MODEL = "gemini-test-1"
SIGNATURE = "c2lnbmVk"
RESPONSE_ID = "response-scripted-1"

MEMBERS = {"contents", "generationConfig", "systemInstruction", "toolConfig", "tools"}


@dataclass(frozen=True)
class Reply:
    """A healthy answer, or one that a filter stopped (``blocked``: the prompt's reason)."""

    pieces: Sequence[str] = ("Hello", " world")
    finish: str | None = "STOP"
    finish_message: str | None = None
    blocked: str | None = None
    thoughts: Sequence[str] = ()
    tool_calls: Sequence[tuple[str | None, str, str]] = ()
    usage: Mapping[str, Any] | None = field(
        default_factory=lambda: {"promptTokenCount": 7, "candidatesTokenCount": 2}
    )
    model: str | None = MODEL


def events(*sent: Any) -> bytes:
    """These events of a stream; a text event is sent as it is."""
    texts = (event if isinstance(event, str) else json.dumps(event) for event in sent)
    return b"".join(f"data: {text}\r\n\r\n".encode() for text in texts)


def saying(*pieces: str) -> dict[str, Any]:
    """One piece of a stream that has not ended."""
    parts = [{"text": piece} for piece in pieces]
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}]}


class GeminiServer(ModelServer[Reply]):
    """Start with ``async with``; the SDK is given ``base_url``."""

    def __init__(
        self, *, models: Sequence[Any] = ({"name": f"models/{MODEL}"},), key: str | None = None
    ) -> None:
        super().__init__(models=models)
        self._key = key

    def is_call(self, request: Recorded) -> bool:
        return request.method == "POST"

    def listing(self, models: Sequence[Any], request: Recorded) -> bytes:
        base = {"supportedGenerationMethods": ["generateContent"], "version": "001"}
        return json_response(200, {"models": [base | model for model in models]})

    def reply(self, reply: Reply, request: Recorded) -> bytes:
        wrong = self._refusal(request)
        if wrong is not None:
            told = {"code": 400, "message": wrong, "status": "INVALID_ARGUMENT"}
            return json_response(400, {"error": told})
        if ":streamGenerateContent" in request.path:
            return stream_response(events(*_pieces(reply)))
        return json_response(200, _response(reply, _parts(reply)))

    def echo(self, request: Recorded) -> Reply:
        said = request.body["contents"][-1]["parts"][-1].get("text")
        return Reply(pieces=("You said: ", str(said)))

    def error_body(self, failure: Failure) -> Any:
        assert isinstance(failure.error, Mapping)
        return {"error": {"code": failure.status, **failure.error}}

    def _refusal(self, request: Recorded) -> str | None:
        """What the real server would find wrong with the request."""
        body = request.body
        if self._key is not None and request.headers.get("x-goog-api-key") != self._key:
            return "API key not valid."
        strange = body.keys() - MEMBERS
        if strange:
            return f'Invalid JSON payload received. Unknown name "{sorted(strange)[0]}"'
        asked = 0
        for content in body["contents"]:
            if content["role"] not in ("user", "model") or not content["parts"]:
                return "contents: a turn has the role user or model, and parts"
            answered = [part for part in content["parts"] if "functionResponse" in part]
            if answered and len(answered) != asked:
                return "the number of function response parts differs from the function calls"
            calls = [part for part in content["parts"] if "functionCall" in part]
            if calls and "thoughtSignature" not in calls[0]:
                return "Function call is missing a thought_signature in functionCall parts."
            asked = len(calls)
        return None


class VertexServer(GeminiServer):
    """The same on Vertex AI: tokens instead of keys, and the endpoint that gives them."""

    def __init__(
        self,
        *,
        models: Sequence[Any] = ({"name": f"publishers/google/models/{MODEL}"},),
        token: str | None = "token-1",
    ) -> None:
        super().__init__(models=models)
        self.token = token

    def is_call(self, request: Recorded) -> bool:
        return "enerateContent" in request.path

    def listing(self, models: Sequence[Any], request: Recorded) -> bytes:
        if request.place == "token" and self.token is None:
            return json_response(400, {"error": "invalid_grant", "error_description": "revoked"})
        if request.place == "token":
            given = {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"}
            return json_response(200, given)
        return json_response(200, {"publisherModels": list(models)})

    def _refusal(self, request: Recorded) -> str | None:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return "Request had invalid authentication credentials."
        return super()._refusal(request)


@cache
def service_account_key() -> str:
    """A private key such as a service account's file holds; made once."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def write_service_account(file: Path, address: str) -> None:
    """Google's file for a service account whose tokens the server at ``address`` gives."""
    facts = {
        "type": "service_account",
        "project_id": "our-project",
        "private_key_id": "1",
        "private_key": service_account_key(),
        "client_email": "agent@our-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{address}/token",
    }
    file.write_text(json.dumps(facts))


def _parts(reply: Reply) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": words, "thought": True} for words in reply.thoughts]
    parts += [{"text": piece} for piece in reply.pieces]
    for index, (call, name, arguments) in enumerate(reply.tool_calls):
        asked = {"name": name, "args": json.loads(arguments)}
        asked |= {} if call is None else {"id": call}
        # Of calls at the same time, the first alone is signed.
        signed = {"thoughtSignature": SIGNATURE} if index == 0 else {}
        parts.append({"functionCall": asked} | signed)
    return parts


def _response(reply: Reply, parts: Sequence[Any], *, last: bool = True) -> dict[str, Any]:
    response: dict[str, Any] = {"responseId": RESPONSE_ID}
    if reply.model is not None:
        response["modelVersion"] = reply.model
    if reply.usage is not None:
        response["usageMetadata"] = reply.usage
    if reply.blocked is not None:
        return response | {"promptFeedback": {"blockReason": reply.blocked}}
    candidate: dict[str, Any] = {"index": 0}
    if parts:
        candidate["content"] = {"role": "model", "parts": list(parts)}
    if last and reply.finish is not None:
        candidate["finishReason"] = reply.finish
    if last and reply.finish_message is not None:
        candidate["finishMessage"] = reply.finish_message
    return response | {"candidates": [candidate]}


def _pieces(reply: Reply) -> Iterator[dict[str, Any]]:
    if reply.blocked is None:
        for part in _parts(reply):
            yield _response(reply, [part], last=False)
    yield _response(reply, [])
