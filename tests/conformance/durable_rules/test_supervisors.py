"""What a supervisor does for tasks that nobody ends, and what everybody stores with an end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.durable.layout import ADVISORY_STREAM, QUEUE_STREAM, TIMER_STREAM
from dragoman_bus.protocol.errors import TaskRejected
from dragoman_bus.transports.streams import Record
from tests.conformance.durable_rules.house import House, in_seconds
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
PATTERN = "Nats-Expected-Last-Subject-Sequence-Subject"


def wish(house: House, task: str) -> dict[str, Any]:
    return house.ghost.envelope("task.cancel", {"taskId": task, "reason": "enough"})


async def test_a_supervisor_claims_a_task_from_its_worker_before_it_ends_it(
    house: House,
) -> None:
    await house.submit("late", "nobody", "x", limits={"deadline": in_seconds(0.5)})
    await house.store("late", "state", house.ghost.status("late", 1), expect=0)
    await house.store("late", "update", house.ghost.status("late", 2, words="busy"))
    timer = house.ghost.envelope("task.get", {"taskId": "late"})
    await house.supervisor()
    record = Record(subject="dragoman.v1.due.late", data=json.dumps(timer).encode())
    await house.witness.streams().append(TIMER_STREAM, record)
    final = await house.ended("late")

    assert (final.state, final.data["error"]["code"]) == ("FAILED", "DEADLINE_EXCEEDED")
    assert (final.data["attempt"], final.data["sequence"]) == (2, 2)
    _, claim, _ = await house.log("late", "state")
    assert (claim.state, claim.data["attempt"]) == ("WORKING", 2)
    await house.hear()
    (headers,) = [
        headers
        for document, headers in house.sent_to("late", "state")
        if document["type"] == "dev.dragoman.task.final"
    ]
    assert (headers[EXPECTED], headers.get(PATTERN)) == (str(claim.position), None)


async def test_a_task_that_waits_is_ended_when_it_is_canceled(house: House) -> None:
    await house.supervisor()
    await house.submit("queued", "nobody", "x")
    await house.submit("retrying", "nobody", "x")
    await house.submit("asking", "nobody", "x")
    for task, state in (
        ("retrying", "TASK_STATE_SUBMITTED"),
        ("asking", "TASK_STATE_INPUT_REQUIRED"),
    ):
        await house.store(task, "state", house.ghost.status(task, 1), expect=0)
        await house.store(task, "state", house.ghost.status(task, 2, state, "well"))
    for task in ("queued", "retrying", "asking"):
        await house.store(task, "control", wish(house, task))

    for task in ("queued", "retrying", "asking"):
        assert (await house.ended(task)).state == "CANCELED"


async def test_a_worker_is_told_of_a_cancel_and_given_a_while(house: House) -> None:
    await house.supervisor(cancel_grace_seconds=0.5)
    told: list[dict[str, Any]] = []

    async def answer() -> None:
        def take(delivery: Any) -> None:
            told.append(json.loads(delivery.data))
            snapshot = json.dumps(house.ghost.snapshot("held", 1)).encode()
            answering.append(asyncio.ensure_future(house.witness.publish(delivery.reply, snapshot)))

        await house.witness.subscribe("dragoman.v1.inst.ghost-1.cancel", take)

    answering: list[Any] = []
    await answer()
    await house.submit("held", "nobody", "x")
    await house.store("held", "state", house.ghost.status("held", 1), expect=0)
    await house.store("held", "control", wish(house, "held"))

    # It does not stop by itself, so it is ended once the grace is over.
    final = await house.ended("held")
    assert final.state == "CANCELED"
    assert [message["data"]["taskId"] for message in told] == ["held"]


async def test_a_queue_message_that_was_delivered_too_often_is_a_failure(house: House) -> None:
    house.settings = msgspec.structs.replace(house.settings, maximum_deliveries=2)
    await house.queues("shout")
    await house.supervisor()
    await house.submit("worn-out", "shout", "x")
    await house.take("shout", b"-NAK")
    await house.take("shout", b"-NAK")
    # The server tells when somebody asks for the message once more.
    third = asyncio.ensure_future(house.take("shout"))
    final = await house.ended("worn-out")
    third.cancel()
    assert (final.state, final.data["error"]["code"]) == ("FAILED", "AGENT_LOST")


async def test_a_message_in_the_queue_of_another_skill_ends_its_task_as_one_for_an_unknown_skill(
    house: House,
) -> None:
    house.settings = msgspec.structs.replace(house.settings, maximum_deliveries=2)
    await house.queues("shout")
    await house.supervisor()
    document = house.submission("astray", "whisper", "x")
    await house.store("astray", "submit", document, expect=0)
    await house.enqueue("astray", document, queue="shout")
    held = house.submission("held", "whisper", "x")
    await house.store("held", "submit", held, expect=0)
    await house.store("held", "state", house.ghost.status("held", 1), expect=0)
    await house.enqueue("held", held, queue="shout")
    for _ in range(4):
        await house.take("shout", b"-NAK")
    # The server tells when somebody asks for the messages once more.
    again = asyncio.ensure_future(house.take("shout"))

    final = await house.ended("astray")
    await eventually(lambda: _dealt_with_advisories(house, 2))
    again.cancel()
    error = final.data["error"]
    assert (final.state, error["code"]) == ("FAILED", "UNKNOWN_SKILL")
    assert "whisper" in error["message"]
    assert len(await house.spine("held")) == 1
    queue = await house.witness.streams().stream_state(QUEUE_STREAM)
    assert queue is not None
    assert queue.messages == 0


async def _dealt_with_advisories(house: House, number: int) -> bool:
    streams = house.witness.streams()
    stored = await streams.stream_state(ADVISORY_STREAM)
    left = await streams.queue_state(ADVISORY_STREAM, "supervisor-advisory")
    assert stored is not None
    assert left is not None
    return stored.last_position >= number and left.waiting + left.unacknowledged == 0


async def test_there_is_a_queue_for_every_announced_skill_and_agent(house: House) -> None:
    await house.supervisor()
    agent = Agent("newcomer")

    @agent.skill
    async def dance(text: str) -> str:
        return text

    house.queues = nothing  # type: ignore[method-assign]
    await house.serve(agent)
    streams = house.witness.streams()

    async def made() -> bool:
        wanted = {"skill-dance-interactive", "skill-dance-batch", "agent-newcomer"}
        return wanted <= set(await streams.queues(QUEUE_STREAM))

    await eventually(made)


async def nothing(*skills: str, agent: str = "") -> None:
    """Make no queues by hand."""


def family() -> Agent:
    """A parent that does not wait for its children, one that fails, and what they call."""
    agent = Agent("family")

    @agent.skill
    async def careless(text: str, *, ctx: Context) -> str:
        child = asyncio.ensure_future(ctx.delegate("nobody", text=text))
        while not ctx._job.stream.log.children:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        child.cancel()
        raise ValueError("careless")

    @agent.skill
    async def tidy(text: str, *, ctx: Context) -> str:
        ctx.afterwards("nobody", "later")
        ctx.announce_afterwards("news", "done", {"n": 1})
        return text

    return agent


async def test_an_end_goes_with_the_cancels_of_its_children_and_its_dead_letter(
    house: House,
) -> None:
    await house.supervisor()
    await house.serve(family())
    await house.submit("parent", "careless", "x", maximumAttempts=1)
    final = await house.ended("parent")
    (noted,) = await house.log("parent", "child")
    child = noted.data["childTaskId"]

    await house.hear()
    batches = {
        one.subject: (one.headers or {}).get("Nats-Batch-Id")
        for one in house.heard
        if (one.headers or {}).get("Nats-Batch-Id")
    }
    letter = "dragoman.v1.dlq.careless.parent"
    together = {"dragoman.v1.evt.parent.state", letter, f"dragoman.v1.evt.{child}.control"}
    assert together <= batches.keys()
    assert len({batches[subject] for subject in together}) == 1
    (stored,) = house.sent(letter.replace(".", r"\."))
    assert EXPECTED not in (stored.headers or {})
    data = json.loads(stored.data)["data"]
    assert data["submission"]["taskId"] == "parent"
    assert [attempt["attempt"] for attempt in data["attempts"]] == [1]
    assert data["attempts"][0]["source"].startswith("/agents/family/")
    assert data["attempts"][0]["startedAt"] <= data["attempts"][0]["endedAt"]
    assert data["error"]["code"] == final.data["error"]["code"] == "SKILL_FAILED"


async def test_a_dead_letter_is_settled_once_and_redriven_together_with_its_settlement(
    house: House,
) -> None:
    await house.supervisor()
    await house.serve(family())
    await house.submit("dead", "careless", "x", maximumAttempts=1)
    await house.ended("dead")
    bus = await house.bus()

    new = await bus.durable.dead_letters.redrive("dead")
    with pytest.raises(TaskRejected, match="ALREADY_SETTLED"):
        await bus.durable.dead_letters.drop("dead")

    await house.hear()
    letter = house.sent(r"dragoman\.v1\.dlq\.careless\.dead")
    settlement = json.loads(letter[1].data)
    assert settlement["type"] == "dev.dragoman.task.settlement"
    # What the supervisor submits once more, should the caller have died, is no part of a batch.
    (submitted,) = [
        (document, headers)
        for document, headers in house.sent_to(new, "submit")
        if "Nats-Batch-Id" in headers
    ]
    assert submitted[0]["data"]["redriveOf"] == "dead"
    assert submitted[1]["Nats-Batch-Id"] == (letter[1].headers or {})["Nats-Batch-Id"]
    page = await house.witness.streams().read("DRAGOMAN_LOG", "dragoman.v1.dlq.careless.dead")
    assert (letter[1].headers or {})[EXPECTED] == str(page.messages[0].position)
    assert len(page.messages) == 2


async def test_what_comes_afterwards_is_stored_with_the_end_and_sent_by_the_supervisor(
    house: House,
) -> None:
    await house.serve(family())
    events: list[Any] = []
    await house.witness.subscribe("dragoman.v1.bus.news.done", events.append)
    await house.submit("tidy-1", "tidy", "x")
    await house.ended("tidy-1")
    (outbox,) = await house.log("tidy-1", "control")
    follower = outbox.data["submissions"][0]["taskId"]
    assert await house.log(follower) == []
    await house.hear()
    batches = [
        (one.headers or {})["Nats-Batch-Id"]
        for one in house.heard
        if one.subject.startswith("dragoman.v1.evt.tidy-1.")
        and (one.headers or {}).get("Nats-Batch-Id")
    ]
    assert len(batches) == 2
    assert len(set(batches)) == 1

    await house.supervisor()
    await eventually(lambda: events)

    async def submitted() -> bool:
        return bool(await house.log(follower, "submit"))

    await eventually(submitted)


async def test_ordered_tasks_are_queued_one_after_the_other_and_their_ends_make_a_turn(
    house: House,
) -> None:
    await house.supervisor()
    agent = Agent("worker")
    release = asyncio.Event()
    runs: list[str] = []

    @agent.skill
    async def turn(text: str) -> str:
        runs.append(text)
        await release.wait()
        return text

    await house.serve(agent)
    bus = await house.bus()
    tasks = [
        await bus.submit("turn", text, delivery="durable", context_id="c", ordered=True)
        for text in ("one", "two")
    ]
    await eventually(lambda: runs == ["one"])
    await house.hear()
    queued = house.sent(r"dragoman\.v1\.task\.turn\.interactive")
    assert {(one.headers or {})["Nats-Msg-Id"] for one in queued} == {tasks[0].task_id}
    release.set()
    for task in tasks:
        await asyncio.wait_for(task.result(), 20)

    assert runs == ["one", "two"]
    for task in tasks:
        batch = {
            (one.headers or {})["Nats-Batch-Id"]
            for one in house.heard
            if one.subject.endswith((f"evt.{task.task_id}.state", f"turn.c.{task.task_id}"))
            and (one.headers or {}).get("Nats-Batch-Id")
            and b"task.status" not in one.data
        }
        # One batch at the submission, one at the end.
        assert len(batch) == 2


async def test_cancel_reaches_children_that_a_canceled_task_left_open(house: House) -> None:
    await house.supervisor()
    await house.submit("above", "nobody", "x")
    await house.store("above", "state", house.ghost.status("above", 1), expect=0)
    data = {"taskId": "above", "attempt": 1, "childTaskId": "below", "skill": "nobody"}
    await house.store("above", "child", house.ghost.envelope("task.child", data))
    await house.submit("below", "nobody", "x")
    await house.store("above", "state", house.ghost.status("above", 2, "TASK_STATE_SUBMITTED"))

    await house.store("above", "control", wish(house, "above"))

    assert (await house.ended("above")).state == "CANCELED"
    assert (await house.ended("below")).state == "CANCELED"
    assert "task.cancel" in {entry.type for entry in await house.log("below", "control")}
