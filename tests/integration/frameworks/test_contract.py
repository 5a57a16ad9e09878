"""What holds for every framework that is wrapped, through the framework itself."""

from __future__ import annotations

import asyncio
import base64

import pytest

from dragoman_bus.protocol.a2a import Message, Part, Role, TaskArtifactUpdateEvent
from dragoman_bus.protocol.errors import (
    DeadlineExceeded,
    TaskCanceled,
    TaskFailed,
    TaskRejected,
)
from dragoman_bus.protocol.payloads import Usage
from tests.integration.frameworks.conftest import Stage
from tests.integration.frameworks.makers import KEY, MAKERS, City, weather
from tests.support.model_server import Failure, Raw, Silence
from tests.support.openai_server import MODEL, Reply, chunk, server_sent
from tests.support.responses_wire import text_event
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

COUNTED = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def said(body: dict[str, object]) -> str:
    """All that a request brings to the model, as text."""
    return str(body)


async def test_text_is_streamed_piece_by_piece(stage: Stage) -> None:
    stage.server.answer_with(Reply(pieces=("Short", " and", " good")))
    bus = await stage.serve()
    task = await bus.submit("help", "A long letter")
    updates = [u async for u in task if isinstance(u, TaskArtifactUpdateEvent)]

    assert (await task.result()).text == "Short and good"
    assert [update.artifact.parts[0].text for update in updates] == ["Short", " and", " good"]
    assert [update.append is True for update in updates] == [False, True, True]
    body = stage.server.chats[0].body
    assert "A long letter" in said(body)
    assert "Be brief." in said(body)


async def test_what_was_used_and_who_served_is_reported(stage: Stage) -> None:
    stage.server.answer_with(Reply(usage=COUNTED))
    bus = await stage.serve()
    result = await bus.ask("help", "A letter")

    assert isinstance(result.usage, Usage)
    assert (result.usage.input_tokens, result.usage.output_tokens) == (9, 5)
    assert result.usage.cached_input_tokens == 4
    if stage.name != "agent-framework":  # its Chat Completions client keeps other names for them
        assert result.usage.reasoning_tokens == 2
    assert result.usage.source == "provider"
    assert result.receipt is not None
    assert getattr(result.receipt.model, "model", None) == MODEL
    assert getattr(result.receipt.model, "family", None) == "tiny"


async def test_the_calls_of_all_steps_count_and_the_last_word_is_the_answer(stage: Stage) -> None:
    stage.server.answer_with(
        Reply(
            pieces=("Let me see",),
            finish="tool_calls",
            tool_calls=[("call-1", "weather", ('{"place": ', '"Rome"}'))],
        ),
        Reply(pieces=("It is", " fine")),
    )
    bus = await stage.serve(tools=[weather])
    task = await bus.submit("help", "How is Rome?")
    shown = ""
    async for update in task:
        if isinstance(update, TaskArtifactUpdateEvent):
            piece = str(update.artifact.parts[0].text)
            shown = shown + piece if update.append is True else piece
    result = await task.result()

    assert result.text == shown == "It is fine"
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.output_tokens) == (14, 4)
    assert "sunny in Rome" in said(stage.server.chats[1].body)


async def test_an_output_type_is_the_skills_output_schema(stage: Stage) -> None:
    stage.server.answer_with(Reply(pieces=('{"name": "Rome",', ' "size": 3}')))
    bus = await stage.serve(output=City)
    result = await bus.ask("help", "Where?")

    assert result.value == {"name": "Rome", "size": 3}
    (announced,) = await bus.discover(agent="helper")
    contract = announced.contract("help")
    assert contract is not None
    assert contract.output_schema["properties"]["size"]["type"] == "integer"
    assert contract.output_schema["required"] == ["name", "size"]


async def test_a_conversation_is_remembered_and_kept_apart_from_others(stage: Stage) -> None:
    bus = await stage.serve()
    for context, text in (("one", "I am Ada"), ("two", "I am Bob"), ("one", "Who am I?")):
        await bus.ask("help", text, context_id=context)
    first, _, third = (chat.body for chat in stage.server.chats)

    if third.get("previous_response_id") is None:
        assert "I am Ada" in said(third)
        assert "You said" in said(third)
    assert "I am Bob" not in said(third)
    assert "Who am I?" in said(third)
    assert first.get("previous_response_id") is None


async def test_two_turns_of_a_conversation_come_one_after_the_other(stage: Stage) -> None:
    stage.server.answer_with(Silence())
    bus = await stage.serve()
    first = await bus.submit("help", "One", context_id="one")
    await asyncio.wait_for(stage.server.stalling.wait(), 10)
    second = await bus.submit("help", "Two", context_id="one")
    other = await bus.ask("help", "Three", context_id="two")
    assert other.text is not None
    assert len(stage.server.chats) == 2
    await first.cancel()
    result = await second.result()

    assert result.text is not None
    assert "Two" in said(stage.server.chats[2].body)


@pytest.mark.parametrize(
    "answer",
    [Silence(), Raw(server_sent(chunk({"content": "a"})), stall=True)],
    ids=["before", "during"],
)
async def test_canceling_the_task_closes_the_models_connection(
    stage: Stage, answer: Silence | Raw
) -> None:
    stage.server.answer_with(answer)
    bus = await stage.serve()
    task = await bus.submit("help", "A letter")
    await asyncio.wait_for(stage.server.stalling.wait(), 10)
    await task.cancel()
    with pytest.raises(TaskCanceled):
        await task.result()

    await asyncio.wait_for(stage.server.client_gone.wait(), 10)


async def test_the_deadline_closes_the_models_connection(stage: Stage) -> None:
    stage.server.answer_with(Silence())
    bus = await stage.serve()
    with pytest.raises((DeadlineExceeded, TaskFailed)) as failed:
        await bus.ask("help", "A letter", deadline=2.0, retries=0)

    assert failed.value.code == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(stage.server.client_gone.wait(), 10)


FAILURES: list[tuple[Failure | Raw, str, bool, float | None]] = [
    (Failure(429, {"message": "slow"}, {"Retry-After": "9"}), "MODEL_RATE_LIMITED", True, 9.0),
    (Failure(429, {"message": "x", "code": "insufficient_quota"}), "MODEL_QUOTA", False, None),
    (Failure(401, {"message": f"bad key {KEY}"}), "MODEL_AUTH", False, None),
    (
        Failure(400, {"message": "x", "code": "context_length_exceeded"}),
        "MODEL_CONTEXT_LENGTH",
        False,
        None,
    ),
    (Failure(404, {"message": "no such model"}), "MODEL_UNAVAILABLE", False, None),
    (Failure(503, {"message": f"{KEY} is busy"}), "MODEL_OVERLOADED", True, None),
    (Raw(b""), "MODEL_UNREACHABLE", True, None),
]


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
async def test_what_the_provider_answers_becomes_one_of_our_errors(
    stage: Stage, streams: bool
) -> None:
    bus = await stage.serve(stream=streams)
    for failure, code, retryable, wait in FAILURES:
        stage.server.answer_with(failure)
        with pytest.raises(TaskFailed) as failed:
            await bus.ask("help", "A letter", retries=0)

        assert (failed.value.code, failed.value.retryable) == (code, retryable)
        assert failed.value.retry_after == wait
        assert KEY not in f"{failed.value}{failed.value.details}"
    assert len(stage.server.chats) == len(FAILURES)


# Pydantic AI asks for the rest of a broken response; the Agents SDK's chat model tells nobody.
@pytest.mark.parametrize(
    "stage",
    [name for name in MAKERS if name not in ("pydantic-ai-responses", "openai-agents")],
    indirect=True,
)
async def test_a_stream_that_breaks_off_is_no_answer(stage: Stage) -> None:
    piece = text_event("The") if stage.name.endswith("responses") else chunk({"content": "The"})
    stage.server.answer_with(Raw(server_sent(piece)))
    bus = await stage.serve()
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("help", "A letter", retries=0)

    assert failed.value.code in ("MODEL_UNREACHABLE", "INTERNAL")
    assert failed.value.retryable


async def test_a_task_that_used_more_than_it_may_fails(stage: Stage) -> None:
    stage.server.answer_with(Reply(usage=COUNTED))
    bus = await stage.serve()
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("help", "A letter", max_tokens=10)

    assert failed.value.code == "LIMIT_EXCEEDED"


async def test_an_input_that_does_not_fit_never_reaches_the_model(stage: Stage) -> None:
    bus = await stage.serve()
    with pytest.raises(TaskRejected) as refused:
        await bus.ask("help", {"text": 7})

    assert refused.value.code == "INVALID_INPUT"
    assert stage.server.chats == []


async def test_an_input_of_ones_own_becomes_the_prompt(stage: Stage) -> None:
    schema = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "to": {"type": "string"}},
        "required": ["text"],
    }
    bus = await stage.serve(input=schema, prompt="To {{to}}: {{text}}")
    await bus.ask("help", {"text": "Good morning", "to": "Rome"})

    assert "To Rome: Good morning" in said(stage.server.chats[0].body)


async def test_no_more_tasks_run_than_the_agent_has_slots(stage: Stage) -> None:
    stage.server.answer_with(Silence())
    bus = await stage.serve(concurrency=1)
    first = await bus.submit("help", "One")
    await asyncio.wait_for(stage.server.stalling.wait(), 10)
    second = await bus.submit("help", "Two")
    await eventually(lambda: second.agent is not None or second.state is not None)
    assert len(stage.server.chats) == 1
    await first.cancel()

    assert (await second.result()).text is not None


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(16)


def asked_with(*parts: Part) -> Message:
    text = Part(text="What is this?")
    return Message(message_id="m-1", role=Role.USER, parts=[text, *parts])


def attached(content: bytes, media_type: str, name: str) -> Part:
    raw = base64.b64encode(content).decode()
    return Part(raw=raw, media_type=media_type, filename=name)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_pictures_and_files_of_a_task_reach_the_model(stage: Stage, stream: bool) -> None:
    bus = await stage.serve(stream=stream)
    document = b"%PDF-1.7 a letter"
    message = asked_with(
        attached(PICTURE, "image/png", "picture.png"),
        attached(document, "application/pdf", "letter.pdf"),
        Part(url="https://example.com/cat.png", media_type="image/png"),
    )
    stage.server.answer_with(Reply(pieces=("A cat",)))

    assert (await bus.ask("help", message)).text == "A cat"

    sent = said(stage.server.chats[0].body)
    assert "What is this?" in sent
    assert f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}" in sent
    assert base64.b64encode(document).decode() in sent
    assert "https://example.com/cat.png" in sent
