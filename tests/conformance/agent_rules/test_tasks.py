"""Questions about a task: get, subscribe, reply, cancel, and the same submission again."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from dragoman_agents import Agent, Context
from tests.conformance.agent_rules.conftest import Serve
from tests.conformance.agent_rules.raw_caller import (
    Answers,
    RawCaller,
    kind_of,
    log_of,
    state_of,
)
from tests.conformance.agent_rules.workshop import Workshop
from tests.conftest import MAX_PAYLOAD
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

MESSAGE = {"messageId": "reply-1", "role": "ROLE_USER", "parts": [{"text": "yes"}]}


def end_of(data: dict[str, Any]) -> dict[str, Any]:
    """What a terminal snapshot and a final both tell of the end."""
    status = (data.get("statusUpdate") or data["task"])["status"]
    artifacts = data.get("artifacts") or data.get("task", {}).get("artifacts")
    told = {name: data.get(name) for name in ("usage", "receipt", "error", "sequence", "attempt")}
    return {**told, "state": status["state"], "artifacts": artifacts}


async def streaming(caller: RawCaller, text: str = "words") -> Answers:
    """A task that has streamed two chunks and goes on."""
    answers = await caller.submit("say", text)
    await answers.until(
        lambda documents: [kind_of(one) for one in documents].count("task.artifact") == 2
    )
    return answers


async def test_get_tells_the_folded_task_and_moves_nothing(serve: Serve, caller: RawCaller) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    answers = await streaming(caller)

    asked = await caller.tell(instance.id, "get", {"taskId": answers.task})
    snapshot = (await asked.first())["data"]
    workshop.release.set()
    await answers.end()

    assert [kind_of(one) for one in asked.documents] == ["task.snapshot"]
    assert snapshot["sequence"] == log_of(answers)[-2]["data"]["sequence"]
    assert snapshot["task"]["id"] == snapshot["task"]["contextId"] == answers.task
    assert snapshot["task"]["status"]["state"] == "TASK_STATE_WORKING"
    assert snapshot["task"]["artifacts"] == [
        {"artifactId": "output", "parts": [{"text": "almost "}, {"text": "words"}]}
    ]


async def test_a_subscription_tells_the_task_and_takes_over_exactly_what_follows(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    answers = await streaming(caller)
    so_far = len(answers.documents)

    first = await caller.tell(instance.id, "subscribe", {"taskId": answers.task, "after": 1})
    await first.first("task.snapshot")
    second = await caller.tell(instance.id, "subscribe", {"taskId": answers.task})
    snapshot = await second.first("task.snapshot")
    workshop.release.set()
    await second.end()
    await (await caller.submit("echo")).end()

    assert len(snapshot["data"]["task"]["artifacts"][0]["parts"]) == 2
    assert len(answers.documents) == so_far
    through = snapshot["data"]["sequence"]
    following = [one["data"]["sequence"] for one in second.documents[1:]]
    assert following == list(range(through + 1, through + 1 + len(following)))
    assert not any(kind_of(one) == "task.final" for one in first.documents)
    assert kind_of(second.documents[-1]) == "task.final"


async def test_of_two_who_subscribe_at_once_each_is_answered(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    answers = await streaming(caller)

    both = [await caller.tell(instance.id, "subscribe", {"taskId": answers.task}) for _ in range(2)]
    for one in both:
        assert kind_of(await one.first()) == "task.snapshot"
    workshop.release.set()
    await both[1].end()
    assert len(both[0].documents) == 1


@pytest.mark.parametrize("skill", ["echo", "say", "fail"])
async def test_an_ended_task_is_told_as_its_final_told_it(
    serve: Serve, caller: RawCaller, skill: str
) -> None:
    workshop = Workshop()
    workshop.release.set()
    instance = await serve(workshop.agent)
    answers = await caller.submit(skill)
    final = await answers.end()

    for operation in ("subscribe", "get", "cancel"):
        told = await caller.ask(instance.id, operation, taskId=answers.task)
        assert (kind_of(told), state_of(told)) == ("task.snapshot", state_of(final))
        assert end_of(told["data"]) == end_of(final["data"])
        assert "keepAliveSeconds" not in told["data"]


@pytest.mark.parametrize("operation", ["get", "subscribe", "cancel", "reply"])
async def test_a_task_that_is_not_there_is_not_found(
    serve: Serve, caller: RawCaller, operation: str
) -> None:
    instance = await serve(Workshop().agent)
    members = {"message": MESSAGE} if operation == "reply" else {}

    told = await caller.ask(instance.id, operation, taskId="unheard-of", **members)

    assert kind_of(told) == "error"
    assert told["data"]["error"]["code"] == "TASK_NOT_FOUND"
    assert told["data"]["taskId"] == "unheard-of"


async def test_a_task_too_large_for_one_message_is_said_to_be_and_stays_where_it_is(
    serve: Serve, caller: RawCaller
) -> None:
    agent = Agent("verbose")

    @agent.skill
    async def write(text: str, *, ctx: Context) -> str:
        for _ in range(2):
            await ctx.emit("x" * (MAX_PAYLOAD * 2 // 3))
        await asyncio.Event().wait()
        return text

    instance = await serve(agent)
    answers = await caller.submit("write")
    await answers.until(lambda documents: len(documents) == 2)

    for operation in ("get", "subscribe", "cancel"):
        told = await caller.ask(instance.id, operation, taskId=answers.task)
        assert kind_of(told) == "error"
        assert told["data"]["error"]["code"] == "PAYLOAD_TOO_LARGE"
        assert told["data"]["taskId"] == answers.task
    assert state_of(await answers.end()) == "TASK_STATE_CANCELED"


async def test_a_reply_to_a_task_that_asks_nothing_is_refused_and_moves_nothing(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    answers = await streaming(caller)

    told = await caller.ask(instance.id, "reply", taskId=answers.task, message=MESSAGE)
    workshop.release.set()

    assert told["data"]["error"]["code"] == "TASK_NOT_WAITING"
    assert state_of(await answers.end()) == "TASK_STATE_COMPLETED"
    after = await caller.ask(instance.id, "reply", taskId=answers.task, message=MESSAGE)
    assert after["data"]["error"]["code"] == "TASK_NOT_WAITING"


async def test_a_question_stands_in_the_status_and_a_reply_is_answered_by_a_snapshot(
    serve: Serve, caller: RawCaller
) -> None:
    instance = await serve(Workshop().agent)
    answers = await caller.submit("ask", "sure")
    asked = await answers.until(
        lambda documents: any("INPUT_REQUIRED" in state_of(one) for one in documents)
    )
    question = next(one for one in asked if "INPUT_REQUIRED" in state_of(one))
    status = question["data"]["statusUpdate"]["status"]
    assert status["message"]["parts"] == [{"text": "sure?"}]
    assert status["message"]["role"] == "ROLE_AGENT"

    told = await caller.ask(instance.id, "reply", taskId=answers.task, message=MESSAGE)
    again = await caller.ask(instance.id, "reply", taskId=answers.task, message=MESSAGE)
    final = await answers.end()

    assert {kind_of(told), kind_of(again)} == {"task.snapshot"}
    assert final["data"]["artifacts"][0]["parts"] == [{"text": "yes"}]


async def test_cancel_is_answered_before_the_end_and_ends_the_task(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    answers = await streaming(caller)

    told = await caller.ask(instance.id, "cancel", taskId=answers.task)
    final = await answers.end()
    again = await caller.ask(instance.id, "cancel", taskId=answers.task)

    assert (kind_of(told), state_of(told)) == ("task.snapshot", "TASK_STATE_WORKING")
    assert (kind_of(final), state_of(final)) == ("task.final", "TASK_STATE_CANCELED")
    assert (kind_of(again), state_of(again)) == ("task.snapshot", "TASK_STATE_CANCELED")


async def test_the_same_submission_again_runs_nothing_and_other_content_is_a_conflict(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    document = caller.submission("hold", "once")
    subject = f"dragoman.v1.inst.{instance.id}.submit"
    first = await caller.send(subject, document)
    await first.first()
    so_far = len(first.documents)

    again = await caller.send(subject, {**document, "id": "raw-again"})
    snapshot = await again.first()
    other = json.loads(json.dumps(document))
    other["data"]["message"]["parts"] = [{"text": "twice"}]
    conflict = await (await caller.send(subject, other)).first()
    workshop.release.set()
    await again.end()

    assert kind_of(snapshot) == "task.snapshot"
    assert conflict["data"]["error"]["code"] == "TASK_CONFLICT"
    assert workshop.started == ["once"]
    assert len(first.documents) == so_far


async def test_an_ended_task_is_remembered_for_a_minute(serve: Serve, caller: RawCaller) -> None:
    instance = await serve(Workshop().agent)
    answers = await caller.submit("echo")
    await answers.end()
    await eventually(lambda: answers.task not in instance.shelf.running)

    instance.shelf.sweep(time.monotonic() + 60)
    assert kind_of(await caller.ask(instance.id, "get", taskId=answers.task)) == "task.snapshot"
    instance.shelf.sweep(time.monotonic() + 3600)
    told = await caller.ask(instance.id, "get", taskId=answers.task)
    assert told["data"]["error"]["code"] == "TASK_NOT_FOUND"


@pytest.mark.parametrize("version", ["1.0", "1.9"])
async def test_answers_come_in_the_major_version_of_the_request(
    serve: Serve, caller: RawCaller, version: str
) -> None:
    instance = await serve(Workshop().agent)
    document = caller.submission("echo") | {"protocolversion": version}
    answers = await caller.send("dragoman.v1.rpc.workshop", document)
    end = await answers.end()
    unknown = caller.envelope("task.get", {"taskId": "nobody"}, protocolversion=version)
    refused = await caller.send(f"dragoman.v1.inst.{instance.id}.get", unknown)

    for answer in (end, await refused.first()):
        assert answer["protocolversion"].partition(".")[0] == "1"


async def test_whoever_sends_fitting_input_is_served_however_it_is_written(
    serve: Serve, caller: RawCaller
) -> None:
    await serve(Workshop().agent)
    both = {"metadata": {"any": 1}, "filename": "x"}
    for number, contents in enumerate((("hi",), ({"text": "hi"},), ("more", {"text": "hi"}))):
        document = caller.submission("echo", *contents)
        document["source"] = f"/clients/stranger-{number}"
        document["data"]["message"]["parts"][0] |= both
        document["com.example.unheard"] = {"of": True}
        end = await (await caller.send("dragoman.v1.skill.echo", document)).end()
        assert state_of(end) == "TASK_STATE_COMPLETED", contents
        assert end["data"]["artifacts"][0]["parts"] == [{"text": "hi"}]
