"""Gemini through the real SDK: milliseconds, signed tool calls, filters, nothing ambient."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
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
    ToolCall,
    Usage,
    open_adapter,
)
from dragoman_agents.models.gemini import Gemini
from tests.integration.models.conftest import KEY
from tests.integration.models.test_openai_compatible import ask
from tests.support.gemini_server import (
    MODEL,
    RESPONSE_ID,
    SIGNATURE,
    GeminiServer,
    Reply,
    events,
    saying,
)
from tests.support.model_server import Failure, Raw, stream_response

pytestmark = pytest.mark.anyio

TOOL = Tool(name="look_up", description="Looks a word up", parameters={"type": "object"})
LABEL = {
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}

both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture
async def gemini_server() -> AsyncIterator[GeminiServer]:
    async with GeminiServer(key=KEY) as running:
        yield running


def opened(server: GeminiServer, **members: Any) -> Gemini:
    members = {"base_url": server.base_url, "model": MODEL, "api_key_env": "KEY"} | members
    settings = ModelSettings(provider="gemini", **members)
    adapter = open_adapter(settings, environment={"KEY": KEY})
    assert isinstance(adapter, Gemini)
    return adapter


@pytest.fixture
async def gemini(gemini_server: GeminiServer) -> AsyncIterator[Gemini]:
    async with aclosing(opened(gemini_server, attachments=("image", "file"))) as adapter:
        yield adapter


async def result_of(adapter: Gemini, request: Request, *, streamed: bool) -> Any:
    if not streamed:
        return await adapter.generate(request)
    async with aclosing(adapter.stream(request)) as sent:
        return [event async for event in sent][-1].result  # type: ignore[union-attr]


async def failure_of(adapter: Gemini, request: Request, *, streamed: bool) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await result_of(adapter, request, streamed=streamed)
    return raised.value


@both_ways
async def test_the_deadline_reaches_the_server_in_its_own_unit(
    gemini: Gemini, gemini_server: GeminiServer, streamed: bool
) -> None:
    request = ask(deadline=time.monotonic() + 40.5)
    await result_of(gemini, request, streamed=streamed)
    assert 35 <= int(gemini_server.chats[0].headers["x-server-timeout"]) <= 41


async def test_the_request_is_as_the_wire_documents_it(
    gemini: Gemini, gemini_server: GeminiServer
) -> None:
    request = Request(
        system="Be brief",
        messages=(
            Message(role="user", text="one"),
            Message(role="assistant", text="two"),
            Message(role="user", text="three"),
        ),
        max_output_tokens=12,
        temperature=0.0,
        seed=5,
    )
    assert (await gemini.generate(request)).request_id == RESPONSE_ID
    chat = gemini_server.chats[0]
    assert chat.path == f"/v1/models/{MODEL}:generateContent"
    assert chat.headers["x-goog-api-key"] == KEY
    assert chat.body["systemInstruction"]["parts"] == [{"text": "Be brief"}]
    assert [(turn["role"], turn["parts"]) for turn in chat.body["contents"]] == [
        ("user", [{"text": "one"}]),
        ("model", [{"text": "two"}]),
        ("user", [{"text": "three"}]),
    ]
    assert chat.body["generationConfig"] == {"maxOutputTokens": 12, "temperature": 0.0, "seed": 5}


async def test_a_schema_is_enforced_unless_there_are_tools_too(
    gemini: Gemini, gemini_server: GeminiServer
) -> None:
    gemini_server.answer_with(*[Reply(pieces=('{"label": "yes"}',))] * 2)
    alone = await gemini.generate(ask(schema=LABEL))
    with_tools = await gemini.generate(ask(schema=LABEL, tools=(TOOL,)))
    assert (alone.schema_mode, with_tools.schema_mode) == ("native", "prompted")
    first, second = (chat.body for chat in gemini_server.chats)
    assert first["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": LABEL,
    }
    assert "responseJsonSchema" not in second.get("generationConfig", {})
    assert "JSON Schema" in json.dumps(second["systemInstruction"])


@both_ways
@pytest.mark.parametrize("call_id", [None, "call-7"], ids=["without-an-id", "with-an-id"])
async def test_a_tool_call_goes_back_as_it_came_with_its_signature(
    gemini: Gemini, gemini_server: GeminiServer, call_id: str | None, streamed: bool
) -> None:
    second = None if call_id is None else "call-8"
    calls = ((call_id, "look_up", '{"word": "wet"}'), (second, "look_up", "{}"))
    gemini_server.answer_with(Reply(pieces=(), tool_calls=calls))
    question = ask(tools=(TOOL,))
    result = await result_of(gemini, question, streamed=streamed)
    assert [call.id for call in result.tool_calls] == [call_id or "call_0", second or "call_1"]
    turn = Message(role="assistant", text="", tool_calls=result.tool_calls)
    answers = [
        Message(role="tool", text="water", tool_call_id=call.id) for call in result.tool_calls
    ]
    await gemini.generate(Request(messages=(*question.messages, turn, *answers), tools=(TOOL,)))
    asked, answered = gemini_server.chats[-1].body["contents"][1:]
    known = {} if call_id is None else {"id": call_id}
    assert asked["parts"][0] == {
        "functionCall": {"name": "look_up", "args": {"word": "wet"}} | known,
        "thoughtSignature": SIGNATURE,
    }
    assert "thoughtSignature" not in asked["parts"][1]
    assert answered["role"] == "user"
    assert (
        answered["parts"][0]["functionResponse"]
        == {
            "name": "look_up",
            "response": {"output": "water"},
        }
        | known
    )


async def test_a_conversation_that_another_model_began_can_go_on(
    gemini: Gemini, gemini_server: GeminiServer
) -> None:
    call = ToolCall(id="toolu_1", name="look_up", arguments="{}", provider_data='{"other": [1]}')
    conversation = (
        Message(role="user", text="Look it up"),
        Message(role="assistant", text="", tool_calls=(call,)),
        Message(role="tool", text="water", tool_call_id="toolu_1"),
    )
    await gemini.generate(Request(messages=conversation, tools=(TOOL,)))
    asked = gemini_server.chats[0].body["contents"][1]["parts"][0]
    assert asked["thoughtSignature"]
    assert "id" not in asked["functionCall"]


async def test_an_answer_to_a_call_that_nobody_made_is_refused(gemini: Gemini) -> None:
    stray = Message(role="tool", text="water", tool_call_id="nobody")
    failure = await failure_of(gemini, Request(messages=(stray,)), streamed=False)
    assert failure.kind == "invalid"
    assert "nobody" in failure.message


async def test_a_file_is_sent_by_address_too(gemini: Gemini, gemini_server: GeminiServer) -> None:
    paper = Attachment(media_type="application/pdf", uri="gs://bucket/paper.pdf")
    message = Message(role="user", text="Sum it up", attachments=(paper,))
    await gemini.generate(Request(messages=(message,)))
    assert gemini_server.chats[0].body["contents"][0]["parts"] == [
        # The SDK writes some members as its own fields are named; the server reads both.
        {"fileData": {"file_uri": "gs://bucket/paper.pdf", "mime_type": "application/pdf"}},
        {"text": "Sum it up"},
    ]


@both_ways
async def test_thoughts_are_no_text_but_counted(
    gemini: Gemini, gemini_server: GeminiServer, streamed: bool
) -> None:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 30}
    gemini_server.answer_with(Reply(thoughts=("hmm",), usage=usage))
    result = await result_of(gemini, ask(), streamed=streamed)
    assert result.text == "Hello world"
    assert (result.usage.output_tokens, result.usage.reasoning_tokens) == (32, 30)


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"promptTokenCount": 9, "totalTokenCount": 9}, (9, 0)),
        ({"promptTokenCount": 9}, (9, None)),
        ({"promptTokenCount": 9, "thoughtsTokenCount": 4}, (9, 4)),
        ({"promptTokenCount": 9, "toolUsePromptTokenCount": 3, "totalTokenCount": 14}, (12, 2)),
    ],
)
async def test_a_count_left_out_is_zero_only_if_the_total_says_so(
    gemini: Gemini, gemini_server: GeminiServer, told: dict[str, int], usage: tuple[int, int]
) -> None:
    gemini_server.answer_with(Reply(usage=told))
    counted = (await gemini.generate(ask())).usage
    assert (counted.input_tokens, counted.output_tokens) == usage


async def test_thinking_is_an_option(gemini_server: GeminiServer) -> None:
    async with aclosing(opened(gemini_server, options={"thinking": "low"})) as gemini:
        await gemini.generate(ask())
    config = gemini_server.chats[0].body["generationConfig"]
    assert config["thinkingConfig"]["thinking_level"].lower() == "low"


@both_ways
@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(pieces=(), blocked="PROHIBITED_CONTENT"), "refused", "blocked the prompt"),
        (Reply(finish="RECITATION"), "refused", "RECITATION"),
        (Reply(finish="SPII"), "refused", "SPII"),
        (Reply(pieces=(), finish="MALFORMED_FUNCTION_CALL"), "internal", "MALFORMED"),
        (Reply(pieces=(), finish="MISSING_THOUGHT_SIGNATURE"), "invalid", "SIGNATURE"),
    ],
    ids=lambda case: case.blocked or case.finish if isinstance(case, Reply) else None,
)
async def test_a_stop_without_an_answer_is_an_error_that_says_what_was_used(
    gemini: Gemini,
    gemini_server: GeminiServer,
    reply: Reply,
    kind: str,
    words: str,
    streamed: bool,
) -> None:
    gemini_server.answer_with(reply)
    failure = await failure_of(gemini, ask(), streamed=streamed)
    assert failure.kind == kind
    assert words in failure.message
    assert failure.usage == Usage(input_tokens=7, output_tokens=2, source="provider")


@both_ways
async def test_an_answer_that_could_be_continued_is_cut_at_its_limit_in_one_call(
    gemini: Gemini, gemini_server: GeminiServer, streamed: bool
) -> None:
    gemini_server.answer_with(Reply(finish="CONTINUATION"))
    assert (await result_of(gemini, ask(), streamed=streamed)).finish == "length"
    assert len(gemini_server.chats) == 1


async def test_a_reason_to_stop_that_is_new_ends_the_answer(
    gemini: Gemini, gemini_server: GeminiServer
) -> None:
    gemini_server.answer_with(Reply(finish="BORED"))
    with pytest.warns(UserWarning, match="BORED"):
        assert (await gemini.generate(ask())).finish == "other"


VIOLATION = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}
MINUTE = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}

FAILURES: list[tuple[str, int, dict[str, Any] | str, str]] = [
    ("a-day", 429, {"status": "RESOURCE_EXHAUSTED", "details": [VIOLATION]}, "quota"),
    ("a-minute", 429, {"status": "RESOURCE_EXHAUSTED", "details": [MINUTE]}, "rate_limited"),
    ("country", 400, {"status": "FAILED_PRECONDITION", "message": "location"}, "auth"),
    ("forbidden", 403, {"status": "PERMISSION_DENIED", "message": "no"}, "auth"),
    (
        "no-billing",
        403,
        {"status": "PERMISSION_DENIED", "details": [{"reason": "BILLING_DISABLED"}]},
        "quota",
    ),
    ("trouble", 500, {"status": "INTERNAL", "message": "oops"}, "overloaded"),
    ("late", 504, {"status": "DEADLINE_EXCEEDED", "message": "late"}, "timeout"),
    ("page-of-a-proxy", 502, "<html>bad gateway</html>", "overloaded"),
    ("bare-429", 429, "slow down", "rate_limited"),
    ("strange-details", 400, {"message": "x", "details": "none"}, "invalid"),
]


@both_ways
@pytest.mark.parametrize(
    ("status", "error", "kind"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES]
)
async def test_a_failure_has_its_kind(
    gemini: Gemini,
    gemini_server: GeminiServer,
    status: int,
    error: dict[str, Any] | str,
    kind: str,
    streamed: bool,
) -> None:
    gemini_server.answer_with(Failure(status, error))
    failure = await failure_of(gemini, ask(), streamed=streamed)
    assert (failure.kind, failure.status) == (kind, status)
    assert len(gemini_server.chats) == 1


async def test_an_error_in_the_middle_of_a_stream_has_its_kind(
    gemini: Gemini, gemini_server: GeminiServer
) -> None:
    error = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    gemini_server.answer_with(Raw(stream_response(events(saying("Hel"), error))))
    failure = await failure_of(gemini, ask(), streamed=True)
    assert (failure.kind, failure.status) == ("overloaded", 503)


@pytest.mark.parametrize(
    "content",
    [b"{}", b"[1]", b'{"candidates": [{"content": {"parts": 5}}]}', b'{"candidates": []}'],
)
async def test_a_garbled_answer_is_an_error(
    gemini: Gemini, gemini_server: GeminiServer, content: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    gemini_server.answer_with(Raw(head + content))
    assert (await failure_of(gemini, ask(), streamed=False)).kind == "internal"


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1beta/"])
async def test_the_address_may_end_with_its_version_or_not(
    gemini_server: GeminiServer, ending: str
) -> None:
    async with aclosing(opened(gemini_server, base_url=gemini_server.address + ending)) as gemini:
        await gemini.generate(ask())
        assert await gemini.list_models() == (MODEL,)
    version = "/v1beta" if "beta" in ending else "/v1"
    assert [request.path.partition("?")[0] for request in gemini_server.requests] == [
        f"{version}/models/{MODEL}:generateContent",
        f"{version}/models",
    ]


async def test_nothing_that_the_sdk_finds_in_the_environment_is_used(
    gemini_server: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.setenv(name, "ambient")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v9ambient")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    async with aclosing(opened(gemini_server)) as gemini:
        await gemini.generate(ask())
        await gemini.health()
    assert len(gemini_server.requests) == 2
    for request in gemini_server.requests:
        assert "ambient" not in str(request)
        assert request.headers["x-goog-api-key"] == KEY
