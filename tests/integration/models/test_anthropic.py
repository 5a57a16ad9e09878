"""Claude through the real SDK: limits, schemas, thoughts with tools, nothing ambient."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from dragoman_agents.models import (
    Attachment,
    Message,
    ModelError,
    ModelSettings,
    Request,
    Tool,
    open_adapter,
)
from dragoman_agents.models.anthropic import SAFE_TOKENS, Anthropic
from dragoman_agents.models.anthropic_schemas import enforceable_schema
from tests.integration.models.conftest import KEY
from tests.integration.models.test_openai_compatible import ask
from tests.support.anthropic_server import (
    MODEL,
    MOST_TOKENS,
    REQUEST_ID,
    AnthropicServer,
    Reply,
    beginning,
    event,
)
from tests.support.model_server import Failure, Raw, stream_response

pytestmark = pytest.mark.anyio

TOOL = Tool(name="look_up", description="Looks a word up", parameters={"type": "object"})


@pytest.fixture
async def claude_server() -> AsyncIterator[AnthropicServer]:
    async with AnthropicServer(key=KEY) as running:
        yield running


def opened(server: AnthropicServer, **members: Any) -> Anthropic:
    members = {"base_url": server.base_url, "model": MODEL, "api_key_env": "KEY"} | members
    settings = ModelSettings(provider="anthropic", **members)
    adapter = open_adapter(settings, environment={"KEY": KEY})
    assert isinstance(adapter, Anthropic)
    return adapter


@pytest.fixture
async def claude(claude_server: AnthropicServer) -> AsyncIterator[Anthropic]:
    async with aclosing(opened(claude_server, attachments=("image", "file"))) as adapter:
        yield adapter


async def failure_of(adapter: Anthropic, request: Request, *, streamed: bool) -> ModelError:
    with pytest.raises(ModelError) as raised:
        if streamed:
            async with aclosing(adapter.stream(request)) as events:
                async for _ in events:
                    pass
        else:
            await adapter.generate(request)
    return raised.value


async def test_without_a_limit_the_models_own_is_asked_for_once(
    claude: Anthropic, claude_server: AnthropicServer
) -> None:
    await claude.generate(ask())
    await claude.generate(ask())
    await claude.generate(ask(max_output_tokens=12))
    assert [chat.body["max_tokens"] for chat in claude_server.chats] == [
        MOST_TOKENS,
        MOST_TOKENS,
        12,
    ]
    assert [request.path for request in claude_server.requests].count(f"/v1/models/{MODEL}") == 1


async def test_a_server_that_does_not_tell_its_models_gets_a_limit_that_all_can_write(
    claude: Anthropic, claude_server: AnthropicServer
) -> None:
    claude_server.models = Failure(404, "not here")
    await claude.generate(ask())
    assert claude_server.chats[0].body["max_tokens"] == SAFE_TOKENS


async def test_a_refused_key_is_told_before_any_call(
    claude: Anthropic, claude_server: AnthropicServer
) -> None:
    claude_server.models = Failure(401, {"type": "authentication_error", "message": "no"})
    failure = await failure_of(claude, ask(), streamed=False)
    assert (failure.kind, claude_server.chats) == ("auth", [])


async def test_the_answer_names_the_id_that_support_asks_for(claude: Anthropic) -> None:
    assert (await claude.generate(ask())).request_id == REQUEST_ID


async def test_a_temperature_is_left_out_and_configuration_must_not_give_one(
    claude: Anthropic, claude_server: AnthropicServer
) -> None:
    await claude.generate(ask(temperature=0.2, seed=4, max_output_tokens=5))
    assert claude_server.chats[0].body.keys() == {"max_tokens", "messages", "model"}
    with pytest.raises(ValueError, match="anthropic takes no temperature"):
        opened(claude_server, temperature=0.2)


async def test_a_schema_is_sent_in_the_providers_dialect_and_the_answer_held_to_our_own(
    claude: Anthropic, claude_server: AnthropicServer
) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["age"],
    }
    claude_server.answer_with(Reply(pieces=('{"age": 151}',)), Reply(pieces=('{"age": 15}',)))
    result = await claude.generate(ask(schema=schema))
    assert (result.data, result.schema_mode) == ({"age": 15}, "repaired")
    sent = claude_server.chats[0].body["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert sent["schema"]["additionalProperties"] is False
    assert "minimum" not in sent["schema"]["properties"]["age"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
        {"type": ["string", "null"]},
        {"type": "object", "properties": {"anything": True}},
    ],
    ids=["any-object", "a-map", "several-types", "any-value"],
)
async def test_a_schema_the_provider_cannot_enforce_is_told_in_words(
    claude: Anthropic, claude_server: AnthropicServer, schema: dict[str, Any]
) -> None:
    answer = '{"anything": "goes"}' if schema["type"] == "object" else "null"
    claude_server.answer_with(Reply(pieces=(answer,)))
    result = await claude.generate(ask(schema=schema))
    assert (result.data, result.schema_mode) == (json.loads(answer), "prompted")
    assert "output_config" not in claude_server.chats[0].body
    assert "JSON Schema" in claude_server.chats[0].body["system"]


def test_schemas_are_judged_before_they_are_translated() -> None:
    assert enforceable_schema({"type": "string"}, lambda schema: schema) == {"type": "string"}
    nested = {"type": "array", "items": {"type": "object"}}
    assert enforceable_schema(nested, lambda schema: schema) is None


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_thoughts_go_back_with_the_tool_calls_they_led_to(
    claude: Anthropic, claude_server: AnthropicServer, streamed: bool
) -> None:
    claude_server.answer_with(
        Reply(
            pieces=("Let me see.",),
            stop="tool_use",
            thoughts=(("It asks for wet", "signed-1"),),
            tool_calls=(("toolu_1", "look_up", "{}"), ("toolu_2", "look_up", '{"word": "wet"}')),
        )
    )
    question = ask(tools=(TOOL,))
    if streamed:
        async with aclosing(claude.stream(question)) as events:
            *_, done = [one async for one in events]
        result = done.result  # type: ignore[union-attr]
    else:
        result = await claude.generate(question)
    assert (result.text, result.finish) == ("Let me see.", "tool_calls")
    turn = Message(role="assistant", text=result.text, tool_calls=result.tool_calls)
    answers = [
        Message(role="tool", text="water", tool_call_id=call.id) for call in result.tool_calls
    ]
    await claude.generate(Request(messages=(*question.messages, turn, *answers), tools=(TOOL,)))
    asked, *answered = claude_server.chats[-1].body["messages"][1:]
    assert [block["type"] for block in asked["content"]] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert asked["content"][0]["signature"] == "signed-1"
    assert asked["content"][3]["input"] == {"word": "wet"}
    assert [one["content"][0]["tool_use_id"] for one in answered] == ["toolu_1", "toolu_2"]


async def test_thinking_and_effort_are_options(claude_server: AnthropicServer) -> None:
    options = {"thinking": "adaptive", "effort": "low"}
    async with aclosing(opened(claude_server, options=options)) as claude:
        await claude.generate(ask())
    body = claude_server.chats[0].body
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})


ATTACHMENTS = [
    (
        Attachment(media_type="image/png", uri="https://example.com/cat.png"),
        {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
    ),
    (
        Attachment(media_type="application/pdf", uri="https://example.com/a.pdf", name="a.pdf"),
        {
            "type": "document",
            "source": {"type": "url", "url": "https://example.com/a.pdf"},
            "title": "a.pdf",
        },
    ),
    (
        Attachment(media_type="text/markdown", data="# Größe".encode()),
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "# Größe"},
        },
    ),
]


@pytest.mark.parametrize(("attachment", "part"), ATTACHMENTS)
async def test_attachments_stand_before_the_text_in_their_own_form(
    claude: Anthropic,
    claude_server: AnthropicServer,
    attachment: Attachment,
    part: Mapping[str, Any],
) -> None:
    message = Message(role="user", text="See", attachments=(attachment,))
    await claude.generate(Request(messages=(message,)))
    assert claude_server.chats[0].body["messages"][0]["content"] == [
        part,
        {"type": "text", "text": "See"},
    ]


@pytest.mark.parametrize(
    "attachment",
    [
        Attachment(media_type="image/tiff", data=b"II*"),
        Attachment(media_type="application/zip", data=b"PK"),
        Attachment(media_type="text/plain", uri="https://example.com/a.txt"),
    ],
    ids=lambda attachment: attachment.media_type,
)
async def test_an_attachment_that_claude_cannot_read_is_refused_with_what_it_can(
    claude: Anthropic, claude_server: AnthropicServer, attachment: Attachment
) -> None:
    message = Message(role="user", text="See", attachments=(attachment,))
    failure = await failure_of(claude, Request(messages=(message,)), streamed=False)
    assert failure.kind == "invalid"
    assert "application/pdf" in failure.message
    assert claude_server.chats == []


async def test_an_empty_answer_can_be_repaired(
    claude: Anthropic, claude_server: AnthropicServer
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    claude_server.answer_with(Reply(pieces=()), Reply(pieces=('{"a": "b"}',)))
    assert (await claude.generate(ask(schema=schema))).schema_mode == "repaired"


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_end_with_its_version_or_not(
    claude_server: AnthropicServer, ending: str
) -> None:
    address = claude_server.address + ending
    async with aclosing(opened(claude_server, base_url=address)) as claude:
        await claude.generate(ask(max_output_tokens=5))
        assert await claude.list_models() == (MODEL,)
    assert [request.path for request in claude_server.requests] == ["/v1/messages", "/v1/models"]


async def test_nothing_that_the_sdk_finds_in_the_environment_is_sent(
    claude_server: AnthropicServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ambient")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-ambient")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Ambient: ambient\nX-Api-Key: sk-ambient")
    async with aclosing(opened(claude_server)) as claude:
        await claude.generate(ask())
        await claude.health()
    assert len(claude_server.requests) == 3
    for request in claude_server.requests:
        assert "ambient" not in str(request)
        assert request.headers["authorization"] == f"Bearer {KEY}"


FAILURES: list[tuple[str, int, dict[str, Any] | str, str]] = [
    ("own-limit", 400, {"message": "You have reached your specified API usage limits."}, "quota"),
    ("no-credit", 400, {"message": "Your credit balance is too low to access"}, "quota"),
    (
        "too-long-with-limit",
        400,
        {"message": "input length and `max_tokens` exceed context limit: 9 + 9 > 10"},
        "context_length",
    ),
    ("bad-parameter", 400, {"message": "tools: Extra inputs are not permitted"}, "invalid"),
    ("too-large", 413, {"type": "request_too_large", "message": "32 MB"}, "invalid"),
    (
        "spent",
        429,
        {
            "type": "rate_limit_error",
            "message": "spent",
            "details": {"error_code": "enforced_spend_limit_reached"},
        },
        "quota",
    ),
    ("forbidden", 403, {"type": "permission_error", "message": "no"}, "auth"),
    ("late", 504, {"type": "timeout_error", "message": "late"}, "timeout"),
    ("trouble", 500, {"type": "api_error", "message": "oops"}, "overloaded"),
    ("page-of-a-proxy", 502, "<html>bad gateway</html>", "overloaded"),
    ("bare-429", 429, "slow down", "rate_limited"),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("status", "error", "kind"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES]
)
async def test_a_failure_has_its_kind(
    claude: Anthropic,
    claude_server: AnthropicServer,
    status: int,
    error: dict[str, Any] | str,
    kind: str,
    streamed: bool,
) -> None:
    told = {"type": "invalid_request_error", **error} if isinstance(error, dict) else error
    claude_server.answer_with(Failure(status, told))
    failure = await failure_of(claude, ask(max_output_tokens=5), streamed=streamed)
    assert (failure.kind, failure.status) == (kind, status)
    assert len(claude_server.chats) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        ({"type": "rate_limit_error", "message": "slow"}, "rate_limited"),
        ({"type": "invalid_request_error", "message": "prompt is too long"}, "context_length"),
        ({"type": "something_new", "message": "?"}, "overloaded"),
    ],
    ids=lambda case: case["type"] if isinstance(case, dict) else "",
)
async def test_an_error_in_the_middle_of_a_stream_has_its_kind(
    claude: Anthropic, claude_server: AnthropicServer, error: dict[str, Any], kind: str
) -> None:
    content = beginning("Hel") + event("error", error=error)
    claude_server.answer_with(Raw(stream_response(content)))
    failure = await failure_of(claude, ask(), streamed=True)
    assert (failure.kind, failure.status) == (kind, None)
    assert "an error in its stream" in failure.message


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_refusal_says_what_it_used(
    claude: Anthropic, claude_server: AnthropicServer, streamed: bool
) -> None:
    claude_server.answer_with(Reply(pieces=(), stop="refusal"))
    failure = await failure_of(claude, ask(), streamed=streamed)
    assert failure.kind == "refused"
    assert failure.usage is not None
    assert failure.usage.input_tokens == 7


async def test_tokens_written_to_the_cache_are_input_too(
    claude: Anthropic, claude_server: AnthropicServer
) -> None:
    usage = {
        "input_tokens": 3,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 40,
        "output_tokens": 2,
    }
    claude_server.answer_with(Reply(usage=usage))
    told = (await claude.generate(ask())).usage
    assert (told.input_tokens, told.cached_input_tokens, told.output_tokens) == (143, 40, 2)
