"""The OpenAI-compatible adapter through the real SDK: asking, streaming, schemas, tools, keys."""

from __future__ import annotations

import time
from contextlib import aclosing

import pytest

from dragoman_agents.models import (
    Done,
    Message,
    ModelError,
    ModelSettings,
    OpenAICompatible,
    Request,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallReady,
    Usage,
)
from dragoman_agents.models.port import Event
from dragoman_bus.protocol.errors import NotConfigured
from tests.integration.models.conftest import KEY
from tests.support.openai_server import MODEL, Failure, OpenAIServer, Raw, Reply, chunk, server_sent

pytestmark = pytest.mark.anyio

CLOSED = {
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}


def ask(text: str = "Say hello", **members: object) -> Request:
    return Request(messages=(Message(role="user", text=text),), **members)  # type: ignore[arg-type]


async def collect(adapter: OpenAICompatible, request: Request) -> list[Event]:
    async with aclosing(adapter.stream(request)) as events:
        return [event async for event in events]


async def test_a_whole_answer_has_text_finish_model_and_usage(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    server.answer_with(
        Reply(
            model="tiny-llama-1b-2026",
            usage={
                "prompt_tokens": 11,
                "completion_tokens": 5,
                "total_tokens": 16,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
        )
    )
    result = await adapter.generate(ask(system="Be brief"))
    assert (result.text, result.finish, result.model) == (
        "Hello world",
        "stop",
        "tiny-llama-1b-2026",
    )
    assert result.usage == Usage(
        input_tokens=11,
        output_tokens=5,
        cached_input_tokens=4,
        reasoning_tokens=3,
        source="provider",
    )
    assert server.chats[0].body["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Say hello"},
    ]


async def test_a_stream_brings_text_as_it_comes_and_ends_with_the_whole_answer(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    events = await collect(adapter, ask())
    assert events[:-1] == [TextDelta("You said: "), TextDelta("Say hello")]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.result.text == "You said: Say hello"
    assert done.result.usage.input_tokens == 7
    assert server.chats[0].body["stream_options"] == {"include_usage": True}


async def test_a_stream_without_usage_says_that_usage_is_unknown(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    server.answer_with(Reply(usage=None))
    done = (await collect(adapter, ask()))[-1]
    assert isinstance(done, Done)
    assert done.result.usage == Usage(input_tokens=None, output_tokens=None, source="none")


async def test_text_arrives_before_the_answer_is_complete(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    server.answer_with(Raw(server_sent(chunk({"content": "first"})), stall=True))
    async with aclosing(adapter.stream(ask())) as events:
        assert await anext(events) == TextDelta("first")


async def test_request_options_reach_the_server_and_absent_ones_do_not(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    await adapter.generate(
        ask(max_output_tokens=12, temperature=0.0, seed=5, headers={"traceparent": "00-ab-cd-01"})
    )
    await adapter.generate(ask())
    full, bare = server.chats
    assert (full.body["max_tokens"], full.body["temperature"], full.body["seed"]) == (12, 0.0, 5)
    assert full.headers["traceparent"] == "00-ab-cd-01"
    assert bare.body.keys() == {"messages", "model"}


async def test_openai_itself_gets_the_newer_name_of_the_output_limit(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    settings = ModelSettings(
        provider="openai", base_url=server.base_url, model=MODEL, api_key_env="KEY"
    )
    async with aclosing(OpenAICompatible(settings, environment={"KEY": KEY})) as newer:
        await newer.generate(ask(max_output_tokens=12))
    assert server.chats[0].body["max_completion_tokens"] == 12
    assert "max_tokens" not in server.chats[0].body


@pytest.mark.parametrize(
    ("schema", "strict"), [(CLOSED, True), ({"type": "object", "properties": {"a": {}}}, False)]
)
async def test_a_schema_is_sent_and_the_answer_parsed(
    adapter: OpenAICompatible, server: OpenAIServer, schema: dict[str, object], strict: bool
) -> None:
    server.answer_with(Reply(pieces=('{"label":', ' "yes"}')))
    result = await adapter.generate(ask(schema=schema))
    assert result.data == {"label": "yes"}
    sent = server.chats[0].body["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == schema
    assert sent["json_schema"]["strict"] is strict


async def test_a_server_without_schemas_is_told_the_schema_in_words(server: OpenAIServer) -> None:
    server.answer_with(Reply(pieces=('```json\n{"label": "yes"}\n```',)))
    settings = ModelSettings(base_url=server.base_url, model=MODEL, structured_output=False)
    async with aclosing(OpenAICompatible(settings)) as adapter:
        assert "json_schema" not in adapter.capabilities
        result = await adapter.generate(ask(schema=CLOSED, system="Classify"))
    assert result.data == {"label": "yes"}
    body = server.chats[0].body
    assert "response_format" not in body
    assert body["messages"][0]["content"].startswith("Classify\n\nAnswer only with JSON")


async def test_an_answer_that_is_not_the_json_asked_for_is_an_error(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    server.answer_with(
        *[Reply(pieces=("yes",))] * 2, Reply(pieces=('{"label": "y',), finish="length")
    )
    with pytest.raises(ModelError) as not_json:
        await adapter.generate(ask(schema=CLOSED))
    with pytest.raises(ModelError, match="cut off at the token limit") as cut:
        await adapter.generate(ask(schema=CLOSED))
    assert (not_json.value.kind, cut.value.kind) == ("internal", "invalid")


@pytest.mark.parametrize("streamed", [False, True])
async def test_tool_calls_are_put_together_and_named_when_the_server_names_none(
    adapter: OpenAICompatible, server: OpenAIServer, streamed: bool
) -> None:
    server.answer_with(
        Reply(
            pieces=(),
            finish="tool_calls",
            tool_calls=(("call-a", "look_up", ('{"word"', ': "a"}')), (None, "stop", ("{}",))),
        )
    )
    tool = Tool(name="look_up", description="Looks up", parameters={"type": "object"})
    request = ask(tools=(tool,))
    expected = (
        ToolCall(id="call-a", name="look_up", arguments='{"word": "a"}'),
        ToolCall(id="call_1", name="stop", arguments="{}"),
    )
    if streamed:
        *calls, done = await collect(adapter, request)
        assert calls == [ToolCallReady(call) for call in expected]
        assert isinstance(done, Done)
        result = done.result
    else:
        result = await adapter.generate(request)
    assert (result.tool_calls, result.finish) == (expected, "tool_calls")
    assert server.chats[0].body["tools"][0]["function"]["name"] == "look_up"


async def test_the_answer_to_a_tool_call_goes_back_to_the_model(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    call = ToolCall(id="call-a", name="look_up", arguments="{}")
    await adapter.generate(
        Request(
            messages=(
                Message(role="assistant", text="", tool_calls=(call,)),
                Message(role="tool", text="found", tool_call_id="call-a"),
            )
        )
    )
    assistant, tool = server.chats[0].body["messages"]
    assert assistant["tool_calls"][0]["function"] == {"name": "look_up", "arguments": "{}"}
    assert tool == {"role": "tool", "content": "found", "tool_call_id": "call-a"}


async def test_the_key_is_sent_as_bearer(adapter: OpenAICompatible, server: OpenAIServer) -> None:
    await adapter.generate(ask())
    assert server.chats[0].headers["authorization"] == f"Bearer {KEY}"


async def test_ambient_openai_settings_never_reach_another_server(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ambient")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-ambient")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-ambient")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-ambient")
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS", "authorization: Bearer sk-ambient\nX-Team: team-ambient"
    )
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    settings = ModelSettings(base_url=server.base_url, model=MODEL)
    async with aclosing(OpenAICompatible(settings)) as adapter:
        await adapter.generate(ask())
        await adapter.health()
    for request in server.requests:
        assert "ambient" not in str(request)
        assert "authorization" not in request.headers


async def test_health_asks_for_the_models(adapter: OpenAICompatible, server: OpenAIServer) -> None:
    await adapter.health()
    assert server.requests[0].path == "/v1/models"
    assert await adapter.list_models() == (MODEL,)
    server.models = Failure(401, {"message": "no", "code": "invalid_api_key"})
    with pytest.raises(ModelError) as refused:
        await adapter.health()
    assert refused.value.kind == "auth"


async def test_a_call_after_its_deadline_is_not_made(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    with pytest.raises(ModelError) as late:
        await adapter.generate(ask(deadline=time.monotonic() - 1))
    assert late.value.code == "DEADLINE_EXCEEDED"
    assert server.requests == []


async def test_a_missing_key_is_said_before_any_call(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    settings = ModelSettings(base_url=server.base_url, model=MODEL, api_key_env="NO_SUCH_KEY")
    with pytest.raises(NotConfigured, match="NO_SUCH_KEY, which is not set"):
        OpenAICompatible(settings)


async def test_a_missing_sdk_is_answered_with_the_extra_to_install(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(NotConfigured, match=r'pip install "dragoman\[openai\]"'):
        OpenAICompatible(ModelSettings(base_url=server.base_url, model=MODEL))
