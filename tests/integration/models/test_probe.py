"""What a server supports is asked of the server, once, when it matters."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from dragoman_agents.models import ModelError, ModelSettings, OpenAICompatible
from dragoman_agents.models.openai_probe import ServerFacts
from tests.integration.models.test_openai_compatible import CLOSED, ask
from tests.support.openai_server import MODEL, Answer, Failure, OpenAIServer, Raw, Reply

pytestmark = pytest.mark.anyio

YES = Reply(pieces=('{"label": "yes"}',))


def opened(server: OpenAIServer, **members: object) -> OpenAICompatible:
    members = {"base_url": server.base_url, "model": MODEL} | members
    return OpenAICompatible(ModelSettings(**members), environment={"KEY": "sk-test"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shown", "mode"),
    [
        (Reply(pieces=('{"word"',), finish="length"), "native"),
        (Reply(pieces=(" ",), finish="length"), "native"),
        (Reply(pieces=("Hello! How",), finish="length"), "prompted"),
        (Failure(400, {"message": "unknown field response_format"}), "prompted"),
        (Failure(422, {"message": "unknown field response_format"}), "prompted"),
    ],
    ids=["enforced", "nothing yet", "ignored", "refused", "unprocessable"],
)
async def test_the_first_schema_shows_whether_schemas_bind(
    server: OpenAIServer, shown: Answer, mode: str
) -> None:
    server.answer_with(shown, YES, YES)
    async with aclosing(opened(server)) as model:
        assert (await model.generate(ask(schema=CLOSED))).schema_mode == mode
        assert (await model.generate(ask(schema=CLOSED))).schema_mode == mode
        assert ("json_schema" in model.capabilities) == (mode == "native")
    probe, first, second = server.chats
    assert probe.body["max_tokens"] <= 8
    assert "response_format" in probe.body
    assert ("response_format" in first.body) == ("response_format" in second.body)
    assert ("response_format" in first.body) == (mode == "native")


async def test_text_costs_no_probe_and_neither_does_a_setting(server: OpenAIServer) -> None:
    server.answer_with(Reply(), YES)
    async with aclosing(opened(server)) as model:
        await model.generate(ask())
    async with aclosing(opened(server, structured_output=True)) as model:
        await model.generate(ask(schema=CLOSED))
    assert len(server.requests) == 2


async def test_a_probe_tells_the_models_or_that_there_is_no_list(server: OpenAIServer) -> None:
    server.answer_with(Reply(pieces=("{",)), Reply(pieces=("{",)))
    async with aclosing(opened(server)) as model:
        assert await model.probe() == ServerFacts(models=(MODEL,), schemas=True)
        assert await model.probe() is await model.probe()
    server.models = Failure(404, {"message": "no such place"})
    async with aclosing(opened(server)) as model:
        assert (await model.probe()).models is None


async def test_a_probe_that_fails_is_no_answer_and_is_tried_again(server: OpenAIServer) -> None:
    server.answer_with(Failure(503, {"message": "loading"}), Reply(pieces=("{",)), YES)
    async with aclosing(opened(server)) as model:
        with pytest.raises(ModelError) as busy:
            await model.generate(ask(schema=CLOSED))
        assert busy.value.kind == "overloaded"
        assert (await model.generate(ask(schema=CLOSED))).schema_mode == "native"


async def test_only_objects_are_enforced_where_a_provider_takes_no_other_schema(
    server: OpenAIServer,
) -> None:
    numbers = {"type": "array", "items": {"type": "integer"}}
    server.answer_with(Reply(pieces=("[1, 2]",)))
    async with aclosing(opened(server, provider="gemini-compatible", api_key_env="KEY")) as model:
        assert model.name == "gemini-compatible"
        result = await model.generate(ask(schema=numbers, seed=3))
    assert (result.data, result.schema_mode) == ([1, 2], "prompted")
    assert "seed" not in server.chats[0].body


async def test_a_failure_told_in_a_healthy_answer_is_a_failure(server: OpenAIServer) -> None:
    body = b'{"error": {"code": 429, "message": "upstream is busy"}}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    server.answer_with(Raw(head + body))
    async with aclosing(opened(server)) as model:
        with pytest.raises(ModelError, match="upstream is busy") as failed:
            await model.generate(ask())
    assert failed.value.kind == "rate_limited"
