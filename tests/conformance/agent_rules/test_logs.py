"""The log of a task as an agent sends it: numbers, names, chunks, keep-alives, flow, one end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.service import serving as leaving
from tests.conformance.agent_rules.conftest import Serve
from tests.conformance.agent_rules.raw_caller import (
    ENDINGS,
    Answers,
    RawCaller,
    kind_of,
    log_of,
    state_of,
)
from tests.conformance.agent_rules.workshop import Workshop
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def about(document: dict[str, Any]) -> tuple[str, str]:
    """The task and the context that a message of the log names."""
    data = document["data"]
    event = data.get("statusUpdate") or data["artifactUpdate"]
    return event["taskId"], event["contextId"]


def chunks(answers: Answers) -> list[dict[str, Any]]:
    """The artifact updates so far."""
    log = [one for one in log_of(answers) if kind_of(one) == "task.artifact"]
    return [one["data"]["artifactUpdate"] for one in log]


@pytest.mark.parametrize("context", ["", "a-context"])
async def test_a_log_counts_from_one_without_gaps_names_its_task_and_ends_once(
    serve: Serve, caller: RawCaller, context: str
) -> None:
    workshop = Workshop()
    workshop.release.set()
    await serve(workshop.agent)
    members = {"contextId": context} if context else {}

    answers = await caller.submit("say", "words", **members)
    await answers.end()
    await (await caller.submit("echo")).end()

    log = log_of(answers)
    assert log == answers.documents
    assert {kind_of(one) for one in log} == {"task.status", "task.artifact", "task.final"}
    assert [one["data"]["sequence"] for one in log] == list(range(1, len(log) + 1))
    assert {one["data"]["attempt"] for one in log} == {1}
    assert {about(one) for one in log} == {(answers.task, context or answers.task)}
    assert [state_of(one) in ENDINGS for one in log] == [*[False] * (len(log) - 1), True]


async def test_every_message_of_a_task_goes_to_exactly_its_reply_subject(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    first, second = [await caller.submit("say", text) for text in ("a", "b")]
    for answers in (first, second):
        await answers.first("task.artifact")
    cancel = await caller.tell(instance.id, "cancel", {"taskId": first.task})
    await first.end()

    assert [kind_of(one) for one in cancel.documents] == ["task.snapshot"]
    for answers in (first, second):
        assert {about(one)[0] for one in answers.documents} == {answers.task}
    assert second.documents
    assert not any(state_of(one) in ENDINGS for one in second.documents)


async def test_nothing_follows_the_end_even_when_the_work_goes_on(
    serve: Serve, caller: RawCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "CANCEL_GRACE_SECONDS", 0.1)
    agent = Agent("stubborn")
    finish, finished = asyncio.Event(), asyncio.Event()

    @agent.skill
    async def stay(text: str, *, ctx: Context) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await finish.wait()
            await ctx.status("still here")
            await ctx.emit("too late")
        finished.set()
        return "done after all"

    instance = await serve(agent)
    answers = await caller.submit("stay")
    await answers.first()
    await caller.ask(instance.id, "cancel", taskId=answers.task)
    assert state_of(await answers.end()) == "TASK_STATE_CANCELED"
    finish.set()
    await finished.wait()
    after = await caller.ask(instance.id, "get", taskId=answers.task)

    assert state_of(after) == "TASK_STATE_CANCELED"
    assert "artifacts" not in after["data"]["task"]
    assert [state_of(one) for one in answers.documents].count("TASK_STATE_CANCELED") == 1
    assert state_of(answers.documents[-1]) == "TASK_STATE_CANCELED"


async def test_work_that_cannot_be_stopped_is_ended_within_five_seconds_of_its_cancel(
    serve: Serve, caller: RawCaller
) -> None:
    agent = Agent("deaf")
    release = asyncio.Event()

    @agent.skill
    async def stay(text: str) -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return text

    instance = await serve(agent)
    tasks = [await caller.submit("stay") for _ in range(3)]
    waits = []
    for answers in tasks:
        await answers.first()
        await caller.tell(instance.id, "cancel", {"taskId": answers.task})
        answers.times.append(asyncio.get_running_loop().time())
    for answers in tasks:
        assert state_of(await answers.end()) == "TASK_STATE_CANCELED"
        waits.append(answers.times[-1] - answers.times[-2])
    release.set()

    # A busy machine may delay some of three; an agent that waits too long delays all.
    assert min(waits) <= 5


async def test_chunks_after_the_first_append_and_what_was_streamed_stays(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    answers = await caller.submit("say", "words")
    await answers.until(lambda _: len(chunks(answers)) == 2)
    snapshot = await caller.ask(instance.id, "get", taskId=answers.task)
    workshop.release.set()
    final = await answers.end()

    told = chunks(answers)
    assert [chunk.get("append", False) for chunk in told] == [False, True]
    streamed = [piece for chunk in told for piece in chunk["artifact"]["parts"]]
    assert [len(chunk["artifact"]["parts"]) for chunk in told] == [1, 1]
    assert snapshot["data"]["task"]["artifacts"][0]["parts"] == streamed
    # The skill's result is not what it had streamed, so the final has it.
    assert final["data"]["artifacts"][0]["parts"] == [{"text": "WORDS"}]


async def test_a_receipt_names_the_model_that_did_the_work_and_none_when_there_was_none(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    workshop.release.set()
    instance = await serve(workshop.agent)

    with_model = (await (await caller.submit("say", "x")).end())["data"]
    without = (await (await caller.submit("echo", "x")).end())["data"]

    assert with_model["receipt"]["model"]["model"] == "parrot"
    assert "model" not in without["receipt"]
    for data in (with_model, without):
        assert (data["receipt"]["agent"], data["receipt"]["instance"]) == ("workshop", instance.id)


async def test_usage_tells_what_is_known_and_nothing_else_however_a_task_ends(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    completed = await caller.submit("hold", "a")
    canceled = await caller.submit("hold", "b")
    await canceled.first()
    await caller.ask(instance.id, "cancel", taskId=canceled.task)
    late = await caller.submit("hold", "c", limits={"deadline": "2020-01-01T00:00:00Z"})
    await late.first()
    usages = {"canceled": (await canceled.end())["data"]["usage"]}
    workshop.release.set()
    usages["completed"] = (await completed.end())["data"]["usage"]
    usages["failed"] = (await (await caller.submit("fail")).end())["data"]["usage"]

    for how, tokens in (("completed", 3), ("canceled", 3), ("failed", 7)):
        assert usages[how] == {"inputTokens": tokens, "calls": 1}
    # Nothing was reported here, so nothing is claimed.
    assert "usage" not in (await (await caller.submit("echo")).end())["data"]


async def test_a_promise_is_kept_by_the_whole_status_again(serve: Serve, caller: RawCaller) -> None:
    workshop = Workshop()
    await serve(workshop.agent)
    answers = await caller.submit("hold", "on")
    statuses = await answers.until(lambda documents: len(documents) >= 4)

    assert {kind_of(one) for one in statuses} == {"task.status"}
    assert [one["data"]["sequence"] for one in statuses] == list(range(1, len(statuses) + 1))
    words = {str(one["data"]["statusUpdate"]["status"]["message"]["parts"]) for one in statuses}
    assert words == {"[{'text': 'holding on'}]"}
    promises = [one["data"]["keepAliveSeconds"] for one in statuses]
    assert max(promises) <= 2
    # A busy machine may delay some of three; an agent that breaks its word delays all.
    assert min(later - earlier for earlier, later in pairwise(answers.times)) <= promises[0]
    workshop.release.set()
    await answers.end()


async def test_a_closed_window_holds_back_everything_but_the_end(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    answers = await caller.submit("spell", "abcdefghij", flowWindow=4)
    await answers.until(lambda documents: len(documents) == 4)
    await caller.settle()

    # Neither old news nor a question about the task moves the window.
    await caller.tell(instance.id, "flow", {"taskId": answers.task, "through": 0})
    await caller.ask(instance.id, "get", taskId=answers.task)
    assert len(answers.documents) == 4
    await caller.tell(instance.id, "flow", {"taskId": answers.task, "through": 2})
    await answers.until(lambda documents: len(documents) == 6)
    await caller.tell(instance.id, "flow", {"taskId": answers.task, "through": 1})
    await caller.ask(instance.id, "get", taskId=answers.task)
    assert [one["data"]["sequence"] for one in answers.documents] == [1, 2, 3, 4, 5, 6]
    await caller.ask(instance.id, "cancel", taskId=answers.task)

    end = await answers.end()
    assert (end["data"]["sequence"], state_of(end)) == (7, "TASK_STATE_CANCELED")


async def test_a_subscription_brings_its_own_window_or_none(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    answers = await caller.submit("spell", "abcdefghij", flowWindow=1)
    await answers.first()

    about_it = {"taskId": answers.task, "flowWindow": 3}
    narrow = await caller.tell(instance.id, "subscribe", about_it)
    await narrow.until(lambda documents: len(documents) == 4)
    await caller.ask(instance.id, "get", taskId=answers.task)
    assert [one["data"]["sequence"] for one in narrow.documents] == [1, 2, 3, 4]
    assert len(answers.documents) == 1

    wide = await caller.tell(instance.id, "subscribe", {"taskId": answers.task})
    await wide.end()
    assert [one["data"]["sequence"] for one in wide.documents] == [4, 5, 6, 7, 8, 9, 10, 11]


async def test_a_task_that_nobody_reads_for_thirty_seconds_is_canceled(
    serve: Serve, caller: RawCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert leaving.CALLER_GONE_SECONDS == 30
    monkeypatch.setattr(leaving, "CALLER_GONE_SECONDS", 0.2)
    await serve(Workshop().agent)

    answers = await caller.submit("spell", "abcdefghij", flowWindow=2)

    end = await answers.end()
    assert state_of(end) == "TASK_STATE_CANCELED"
    assert end["data"]["sequence"] == 3


async def test_the_work_waits_while_the_window_is_closed_and_nothing_is_dropped(
    serve: Serve, caller: RawCaller
) -> None:
    agent = Agent("counter")
    emitted = 0

    @agent.skill
    async def count(text: str) -> AsyncIterator[str]:
        nonlocal emitted
        for number in range(10):
            emitted = number + 1
            yield str(number)

    instance = await serve(agent)
    answers = await caller.submit("count", flowWindow=3)
    await answers.until(lambda documents: len(documents) == 3)
    await eventually(lambda: emitted == 4)
    await caller.ask(instance.id, "get", taskId=answers.task)
    assert emitted == 4
    await caller.tell(instance.id, "flow", {"taskId": answers.task, "through": 10})
    await answers.end()

    texts = [piece["text"] for chunk in chunks(answers) for piece in chunk["artifact"]["parts"]]
    assert "".join(texts) == "0123456789"
