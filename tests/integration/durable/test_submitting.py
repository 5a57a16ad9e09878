"""What a submission may be, what refuses it, and what its deadline depends on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.durable.layout import TIMER_STREAM
from dragoman_bus.durable.submission import timer_record
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import (
    DragomanError,
    PayloadTooLarge,
    ProtocolError,
    TaskCanceled,
    TaskFailed,
    TaskRejected,
)
from dragoman_bus.protocol.payloads import Cost, Lineage
from dragoman_bus.protocol.subjects import timer_subject
from tests.conftest import MAX_PAYLOAD
from tests.integration.durable.conftest import SETTINGS, House

pytestmark = pytest.mark.anyio


def talker() -> Agent:
    """An agent that streams, and then perhaps fails."""
    agent = Agent("talker")

    @agent.skill
    async def talk(pieces: int, size: int, fail: bool, *, ctx: Context) -> str:
        for number in range(pieces):
            await ctx.emit(str(number % 10) * size)
        if fail:
            raise ValueError("no more words")
        return "".join(str(number % 10) * size for number in range(pieces))

    @agent.skill
    async def judge(text: str) -> str:
        raise ValueError("w" * 5000)

    return agent


async def test_output_larger_than_a_message_does_not_keep_its_task_from_failing(
    house: House,
) -> None:
    await house.supervisor()
    await house.serve(talker())
    bus = await house.bus()
    sizes = {"pieces": 40, "size": 10_000, "fail": True}
    task = await bus.submit("talk", sizes, delivery="durable", deadline=30)
    with pytest.raises(TaskFailed, match="no more words"):
        await task.result()
    letter = await bus.durable.dead_letters.get(task.task_id)
    assert [report.attempt for report in letter.data.attempts] == [1]
    assert not letter.data.artifacts
    assert sum(len(str(part.text)) for part in task.log.task.parts_of("output")) == 400_000


async def test_the_largest_submission_leaves_room_for_its_dead_letter(house: House) -> None:
    await house.supervisor()
    await house.serve(talker())
    bus = await house.bus()
    with pytest.raises(PayloadTooLarge, match="artifacts"):
        await bus.submit("judge", "x" * (MAX_PAYLOAD - 16_384), delivery="durable")
    task = await bus.submit("judge", "x" * (MAX_PAYLOAD - 17_408), delivery="durable")
    with pytest.raises(TaskFailed, match="www"):
        await task.result()
    letter = await bus.durable.dead_letters.get(task.task_id)
    assert letter.data.submission == task.log.data


async def test_pieces_that_pile_up_are_stored_whole(house: House) -> None:
    await house.supervisor()
    await house.serve(talker())
    bus = await house.bus()
    sizes = {"pieces": 200, "size": 4000, "fail": False}
    task = await bus.submit("talk", sizes, delivery="durable")
    text = (await task.result()).text
    assert text == "".join(str(number % 10) * 4000 for number in range(200))


async def test_a_piece_that_cannot_be_stored_fails_its_task(house: House) -> None:
    await house.supervisor()
    await house.serve(talker())
    sizes = {"pieces": 1, "size": MAX_PAYLOAD, "fail": False}
    task = await (await house.bus()).submit("talk", sizes, delivery="durable")
    with pytest.raises(TaskFailed, match="PAYLOAD_TOO_LARGE"):
        await task.result()


@pytest.mark.parametrize(
    ("option", "member"),
    [
        ({"max_tokens": -1}, "limits.maxTokens"),
        ({"max_cost": 0.5}, "limits.maxCost"),
        ({"max_cost": Cost(amount=0.5, currency="usd")}, "limits.maxCost.currency"),
        ({"max_hops": 1000}, "limits.maxHops"),
        ({"maximum_attempts": -1}, "maximumAttempts"),
        ({"contract": "sha256:short"}, "contract"),
    ],
)
async def test_a_task_that_nobody_could_read_from_its_log_is_not_stored(
    house: House, option: dict[str, Any], member: str
) -> None:
    await house.supervisor()
    bus = await house.bus()
    with pytest.raises(ProtocolError, match=rf"`\$\.{member}`"):
        await bus.submit("talk", "x", delivery="durable", task_id="unreadable", **option)
    with pytest.raises(DragomanError, match="TASK_NOT_FOUND"):
        await bus.durable.task("unreadable").get()


async def test_nobody_puts_off_the_deadline_of_anothers_task(house: House) -> None:
    await house.supervisor()
    bus, other = await house.bus(), await house.bus()
    task = await bus.submit("nobody", "mine", delivery="durable", task_id="timed-1", deadline=3)
    with pytest.raises(TaskRejected, match="TASK_CONFLICT"):
        await other.submit("nobody", "yours", delivery="durable", task_id="timed-1", deadline=3600)
    same = await other.submit(
        "nobody", "mine", delivery="durable", task_id="timed-1", deadline=3600
    )
    for handle in (task, same):
        async with asyncio.timeout(15):
            with pytest.raises(TaskFailed, match="DEADLINE_EXCEEDED"):
                await handle.result()


async def test_who_comes_after_an_attempt_that_died_has_his_own_deadline(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    left = timer_record("timed-2", "deadline", time.time() + 3600, bus.durable._sender)
    await bus.durable.store.streams.append(TIMER_STREAM, left)
    task = await bus.submit("nobody", "x", delivery="durable", task_id="timed-2", deadline=2)
    async with asyncio.timeout(15):
        with pytest.raises(TaskFailed, match="DEADLINE_EXCEEDED"):
            await task.result()


async def test_a_timer_that_comes_too_early_is_not_the_last_one(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    task = await bus.submit("nobody", "x", delivery="durable", deadline=5)
    streams = bus.durable.store.streams
    await streams.purge(TIMER_STREAM, timer_subject(task.task_id, "deadline"))
    early = timer_record(task.task_id, "deadline", time.time(), bus.durable._sender)
    await streams.append(TIMER_STREAM, early)
    async with asyncio.timeout(20):
        with pytest.raises(TaskFailed, match="DEADLINE_EXCEEDED"):
            await task.result()


async def test_what_was_canceled_with_its_parent_is_not_submitted_any_more(
    house: House,
) -> None:
    await house.supervisor()
    bus = await house.bus()
    await bus.durable.task("late-child").request_cancel("its parent has ended")
    lineage = Lineage(parent_task_id="parent", root_task_id="parent", path=["parent"])
    with pytest.raises(TaskCanceled):
        await bus.submit("nobody", "x", delivery="durable", task_id="late-child", lineage=lineage)


@pytest.mark.parametrize(
    ("skill", "limit", "text"),
    [
        ("crowded", {"queue_tasks": 3}, "x"),
        ("heavy", {"queue_bytes": 20_000}, "x" * 6000),
    ],
)
async def test_a_full_queue_refuses_and_says_when_to_come_back(
    house: House, skill: str, limit: dict[str, int], text: str
) -> None:
    await house.supervisor(msgspec.structs.replace(SETTINGS, **limit))
    bus = await house.bus()
    accepted = []
    with pytest.raises(DragomanError, match="OVERLOADED") as refused:
        for _ in range(10):
            task = await bus.submit(skill, text, delivery="durable", retries=0)
            accepted.append(task.task_id)
    assert refused.value.retry_after
    assert refused.value.retryable
    assert 2 <= len(accepted) <= 3
    states = {task.task_id: task.state async for task in bus.durable.tasks(skill=skill)}
    # Nobody can submit the refused one again, so it is ended and not left behind.
    assert {states[task_id] for task_id in states.keys() - set(accepted)} == {TaskState.REJECTED}
