"""What holds for OpenAI's own API, by both of its wires: strict schemas, refusals, failures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from dragoman_agents.models import ModelError, ModelSettings, open_adapter
from tests.integration.models.conftest import KEY
from tests.integration.models.test_openai_compatible import CLOSED, ask
from tests.support import responses_wire
from tests.support.model_server import Failure, Raw
from tests.support.openai_server import MODEL, OpenAIServer, Reply, server_sent

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["chat", "responses"])
async def gpt(request: pytest.FixtureRequest, server: OpenAIServer) -> AsyncIterator[Any]:
    settings = ModelSettings(
        provider="openai",
        base_url=server.base_url,
        model=MODEL,
        api_key_env="KEY",
        options={"api": request.param},
    )
    async with aclosing(open_adapter(settings, environment={"KEY": KEY})) as adapter:
        yield adapter


@pytest.mark.parametrize(
    ("schema", "mode"),
    [
        (CLOSED, "native"),
        ({"type": "object", "properties": {"label": {"type": "string"}}}, "prompted"),
        ({**CLOSED, "minProperties": 1}, "prompted"),
    ],
    ids=["strict", "optional-members", "a-keyword-too-many"],
)
async def test_only_a_strict_schema_is_enforced_and_the_rest_told_in_words(
    gpt: Any, server: OpenAIServer, schema: dict[str, Any], mode: str
) -> None:
    server.answer_with(Reply(pieces=('{"label": "yes"}',)))
    result = await gpt.generate(ask(schema=schema))
    assert (result.data, result.schema_mode) == ({"label": "yes"}, mode)
    body = server.chats[0].body
    assert ("json_schema" in str(body.get("response_format", body.get("text")))) == (
        mode == "native"
    )


async def test_a_refusal_says_what_it_used(gpt: Any, server: OpenAIServer) -> None:
    server.answer_with(Reply(refusal="No"))
    with pytest.raises(ModelError) as refused:
        await gpt.generate(ask())
    assert refused.value.kind == "refused"
    assert refused.value.usage is not None
    assert refused.value.usage.input_tokens == 7


async def test_a_repair_that_fails_says_what_the_first_answer_used(
    gpt: Any, server: OpenAIServer
) -> None:
    server.answer_with(Reply(pieces=("perhaps",)), Failure(503, {"message": "busy"}))
    with pytest.raises(ModelError) as failed:
        await gpt.generate(ask(schema=CLOSED))
    assert failed.value.kind == "overloaded"
    assert failed.value.usage is not None
    assert failed.value.usage.input_tokens == 7


async def test_a_flagged_prompt_is_a_refusal(gpt: Any, server: OpenAIServer) -> None:
    flagged = {"message": "Your prompt was flagged", "code": "invalid_prompt"}
    server.answer_with(Failure(400, flagged))
    with pytest.raises(ModelError) as refused:
        await gpt.generate(ask())
    assert refused.value.kind == "refused"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("bio_policy", "refused"),
        ("invalid_prompt", "refused"),
        ("image_too_large", "invalid"),
        ("rate_limit_exceeded", "rate_limited"),
        ("server_error", "overloaded"),
        ("something_new", "overloaded"),
    ],
)
async def test_a_response_that_failed_has_its_kind(
    server: OpenAIServer, code: str, kind: str
) -> None:
    settings = ModelSettings(
        provider="openai",
        base_url=server.base_url,
        model=MODEL,
        api_key_env="KEY",
        options={"api": "responses"},
    )
    whole = responses_wire.response([], model=MODEL) | {
        "status": "failed",
        "error": {"code": code, "message": "it failed"},
    }
    failed = {"type": "response.failed", "response": whole, "sequence_number": 1}
    server.answer_with(Raw(server_sent(failed)))
    async with aclosing(open_adapter(settings, environment={"KEY": KEY})) as model:
        with pytest.raises(ModelError) as raised:
            async with aclosing(model.stream(ask())) as events:
                async for _ in events:
                    pass
    assert raised.value.kind == kind
