"""Every adapter answers, streams, fits schemas, calls tools and says who served, and alike."""

from __future__ import annotations

import base64
import json

import pytest

from dragoman_agents.models import (
    Attachment,
    Done,
    Message,
    Request,
    Tool,
    ToolCall,
    ToolCallReady,
    Usage,
)
from dragoman_bus.validation import validate_value
from tests.contract.models.acts import Say
from tests.contract.models.asking import LABEL, ask, events_of, failure_of, result_of, text_of
from tests.contract.models.stage import Stage

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])

TOOL = Tool(
    name="look_up",
    description="Looks a word up",
    parameters={
        "type": "object",
        "properties": {"word": {"type": "string"}},
        "required": ["word"],
        "additionalProperties": False,
    },
)
PIXEL = base64.b64decode("R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==")


@pytest.mark.scenario("answer")
async def test_an_answer_has_text_finish_and_model(stage: Stage) -> None:
    stage.play(Say())
    result = await stage.adapter.generate(ask())
    assert isinstance(result.text, str)
    assert result.finish in ("stop", "length")
    assert result.model
    assert (result.data, result.schema_mode, result.tool_calls) == (None, None, ())
    assert stage.calls == 1
    if stage.is_scripted:
        assert (result.text, result.finish) == ("Hello world", "stop")


@pytest.mark.scenario("stream")
async def test_a_stream_is_text_in_pieces_and_then_the_whole_answer(stage: Stage) -> None:
    stage.play(Say())
    events = await events_of(stage.adapter, ask())
    done = events[-1]
    assert isinstance(done, Done)
    assert text_of(events) == done.result.text
    assert sum(isinstance(event, Done) for event in events) == 1
    assert "stream" in stage.adapter.capabilities
    if stage.is_scripted:
        assert done.result.text == "Hello world"
        assert len(events) == 3


@both_ways
@pytest.mark.scenario("system")
async def test_system_prompt_and_conversation_reach_the_model(stage: Stage, streamed: bool) -> None:
    stage.play(Say())
    request = Request(
        system="Be brief, señor",
        messages=(
            Message(role="user", text="first question"),
            Message(role="assistant", text="first answer"),
            Message(role="user", text="second question"),
        ),
        max_output_tokens=32,
    )
    await result_of(stage.adapter, request, streamed=streamed)
    sent = json.dumps(stage.sent(), ensure_ascii=False)
    places = [sent.index(words) for words in ("first question", "first answer", "second question")]
    assert places == sorted(places)
    assert "Be brief, señor" in sent


@pytest.mark.scenario("limits")
async def test_an_answer_cut_at_the_token_limit_says_so(stage: Stage) -> None:
    stage.play(Say(cut_at_limit=True))
    result = await stage.adapter.generate(ask(max_output_tokens=3, temperature=0.0))
    assert result.finish == "length"
    assert stage.sent() is None or "3" in json.dumps(stage.sent())


@both_ways
@pytest.mark.scenario("headers")
async def test_trace_headers_travel_with_the_call(stage: Stage, streamed: bool) -> None:
    stage.play(Say())
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await result_of(stage.adapter, ask(headers={"traceparent": trace}), streamed=streamed)
    assert stage.sent_headers()["traceparent"] == trace


@both_ways
@pytest.mark.scenario("schema")
async def test_an_answer_to_a_schema_fits_it(stage: Stage, streamed: bool) -> None:
    stage.play(Say(pieces=('{"label":', ' "yes"}')))
    request = ask("Is water wet?", schema=LABEL, max_output_tokens=64)
    result = await result_of(stage.adapter, request, streamed=streamed)
    assert validate_value(LABEL, result.data) == []
    native = "json_schema" in stage.adapter.capabilities
    if stage.is_scripted:
        assert result.schema_mode == ("native" if native else "prompted")
        assert "enum" in json.dumps(stage.sent())


@both_ways
@pytest.mark.scenario("schema_repair")
@pytest.mark.parametrize("first", ["perhaps", '{"label": "perhaps"}'])
async def test_an_answer_that_does_not_fit_is_repaired_once_and_flagged(
    stage: Stage, first: str, streamed: bool
) -> None:
    stage.play(Say(pieces=(first,)), Say(pieces=('{"label": "no"}',)))
    result = await result_of(stage.adapter, ask(schema=LABEL), streamed=streamed)
    assert (result.data, result.schema_mode) == ({"label": "no"}, "repaired")
    assert (result.usage.input_tokens, result.usage.output_tokens) == (14, 4)
    assert stage.calls == 2
    assert "does not fit" in json.dumps(stage.sent())


@both_ways
@pytest.mark.scenario("tools")
async def test_the_model_asks_for_tools(stage: Stage, streamed: bool) -> None:
    stage.play(
        Say(
            pieces=(),
            tool_calls=(
                ToolCall(id="call_a", name="look_up", arguments='{"word":"wet"}'),
                ToolCall(id="call_b", name="look_up", arguments='{"word":"dry"}'),
            ),
        )
    )
    request = ask("Look up: wet and dry", tools=(TOOL,))
    if streamed:
        events = await events_of(stage.adapter, request)
        done = events[-1]
        assert isinstance(done, Done)
        ready = [event.call for event in events if isinstance(event, ToolCallReady)]
        result = done.result
        assert tuple(ready) == result.tool_calls
    else:
        result = await stage.adapter.generate(request)
    assert result.finish == "tool_calls"
    assert [call.name for call in result.tool_calls] == ["look_up", "look_up"]
    words = [json.loads(call.arguments)["word"] for call in result.tool_calls]
    assert words == ["wet", "dry"]
    assert len({call.id for call in result.tool_calls}) == 2
    assert "Looks a word up" in json.dumps(stage.sent())


@pytest.mark.scenario("tool_result")
async def test_what_a_tool_answered_goes_back_to_the_model(stage: Stage) -> None:
    stage.play(Say())
    call = ToolCall(id="call_a", name="look_up", arguments='{"word":"wet"}')
    request = Request(
        messages=(
            Message(role="user", text="Look up: wet"),
            Message(role="assistant", text="", tool_calls=(call,)),
            Message(role="tool", text="covered with water", tool_call_id="call_a"),
        ),
        tools=(TOOL,),
        max_output_tokens=32,
    )
    assert (await stage.adapter.generate(request)).text == "Hello world"
    sent = json.dumps(stage.sent())
    assert "covered with water" in sent
    assert "wet" in sent


@pytest.mark.scenario("image")
async def test_a_picture_reaches_the_model(stage: Stage) -> None:
    stage.play(Say())
    assert "image" in stage.adapter.capabilities
    picture = Attachment(media_type="image/gif", data=PIXEL, name="pixel.gif")
    await stage.adapter.generate(
        Request(messages=(Message(role="user", text="What is this?", attachments=(picture,)),))
    )
    sent = json.dumps(stage.sent())
    assert base64.b64encode(PIXEL).decode() in sent
    assert "What is this?" in sent


@pytest.mark.scenario("file")
async def test_a_file_reaches_the_model(stage: Stage) -> None:
    stage.play(Say())
    assert "file" in stage.adapter.capabilities
    paper = Attachment(media_type="application/pdf", data=b"%PDF-1.7 tiny", name="tiny.pdf")
    await stage.adapter.generate(
        Request(messages=(Message(role="user", text="Sum it up", attachments=(paper,)),))
    )
    assert base64.b64encode(b"%PDF-1.7 tiny").decode() in json.dumps(stage.sent())


async def test_an_attachment_the_adapter_cannot_send_is_refused_and_not_dropped(
    stage: Stage,
) -> None:
    for media_type, capability in (("image/gif", "image"), ("application/pdf", "file")):
        if capability in stage.adapter.capabilities or "text" not in stage.adapter.capabilities:
            continue
        attachment = Attachment(media_type=media_type, data=PIXEL, name="it")
        request = Request(messages=(Message(role="user", text="See", attachments=(attachment,)),))
        failure = await failure_of(stage.adapter, request, streamed=False)
        assert failure.kind == "invalid"
    assert stage.calls == 0


@both_ways
@pytest.mark.scenario("usage")
async def test_usage_tells_cached_and_reasoning_tokens(stage: Stage, streamed: bool) -> None:
    usage = Usage(
        input_tokens=11,
        output_tokens=5,
        cached_input_tokens=4,
        reasoning_tokens=3,
        source="provider",
    )
    stage.play(Say(usage=usage))
    result = await result_of(stage.adapter, ask(), streamed=streamed)
    assert result.usage == usage


@both_ways
@pytest.mark.scenario("usage_unknown")
async def test_usage_that_is_not_told_is_unknown_and_not_zero(stage: Stage, streamed: bool) -> None:
    stage.play(Say(usage=None))
    result = await result_of(stage.adapter, ask(), streamed=streamed)
    assert result.usage == Usage(source="none")


@both_ways
@pytest.mark.scenario("served_model")
async def test_the_result_names_the_model_that_served(stage: Stage, streamed: bool) -> None:
    stage.play(Say(model=f"{stage.MODEL}-2026-11-01"))
    result = await result_of(stage.adapter, ask(), streamed=streamed)
    assert result.model == f"{stage.MODEL}-2026-11-01"


@pytest.mark.scenario("health")
async def test_a_healthy_provider_is_found_healthy(stage: Stage) -> None:
    await stage.adapter.health()
    assert stage.calls == 0
