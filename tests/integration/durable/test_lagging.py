"""Whoever reads from a node of a cluster that is behind takes nothing for missing too early."""

from __future__ import annotations

import asyncio

import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.errors import RequestTimeout, TaskCanceled, TaskFailed, TaskRejected
from dragoman_bus.protocol.messages import TaskFinal
from dragoman_bus.supervisor import supervising
from dragoman_bus.transports.streams import Record
from tests.integration.durable.conftest import SETTINGS, House
from tests.support.lagging import behind

pytestmark = pytest.mark.anyio

A_LITTLE = 0.3
LONG = 4.0


def clerk() -> Agent:
    agent = Agent("clerk", concurrency=4)

    @agent.skill
    async def inquire(text: str, *, ctx: Context) -> str:
        return f"{text}, {await ctx.ask('Who?')}"

    @agent.skill
    async def stumble(text: str) -> str:
        raise ValueError(text)

    return agent


async def test_a_caller_finds_what_others_were_just_told_is_stored(house: House) -> None:
    await house.supervisor()
    await house.serve(clerk())
    bus, far = await house.bus(), await house.bus()
    behind(far.transport, A_LITTLE)
    async with asyncio.timeout(30):
        task = await bus.submit("inquire", "Hello", delivery="durable", task_id="greeting")
        assert (await far.durable.task("greeting").get()).id == "greeting"
        async for _ in task:
            if task.question:
                break
        await far.durable.task("greeting").reply("Ada")
        assert (await task.result()).text == "Hello, Ada"
        failing = await bus.submit("stumble", "oh", delivery="durable")
        with pytest.raises(TaskFailed):
            await failing.result()
        assert await far.durable.dead_letters.redrive(failing.task_id)
        content = await bus.artifacts.put(b"new")
        assert await far.artifacts.get(content) == b"new"


async def test_a_reader_that_comes_in_the_moment_of_the_end_hears_of_it_soon(house: House) -> None:
    await house.supervisor()
    bus, far = await house.bus(), await house.bus()
    task = await bus.submit("nobody", "x", delivery="durable")
    behind(far.transport, A_LITTLE)
    while (await far.durable.store.read(task.task_id)).submission is None:
        await asyncio.sleep(A_LITTLE / 10)
    await task.cancel()
    # Its node does not have the end yet, which was told before it listened.
    async with asyncio.timeout(5):
        with pytest.raises(TaskCanceled):
            await far.durable.task(task.task_id).result()


async def test_the_same_task_submitted_at_once_is_one_task_also_for_who_is_behind(
    house: House,
) -> None:
    await house.supervisor()
    bus, far = await house.bus(), await house.bus()
    behind(far.transport, A_LITTLE)
    await bus.submit("nobody", "x", delivery="durable", task_id="same")
    assert (await far.submit("nobody", "x", delivery="durable", task_id="same")).task_id == "same"
    await bus.submit("nobody", "x", delivery="durable", task_id="other")
    with pytest.raises(TaskRejected, match="TASK_CONFLICT"):
        await far.submit("nobody", "y", delivery="durable", task_id="other")


async def test_a_worker_that_is_behind_knows_its_claim_whose_answer_was_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.supervisor()
    bus = await house.bus()
    task = await bus.submit("claimed", "x", delivery="durable")
    hands = await house.hands()
    stream = hands.begin(await hands.take("claimed", SETTINGS))
    streams = hands.store.streams
    append = streams.append
    answers = iter([RequestTimeout("the answer was lost")])

    async def lose_one(name: str, *records: Record) -> int:
        position = await append(name, *records)
        for lost in answers:
            raise lost
        return position

    monkeypatch.setattr(streams, "append", lose_one)
    behind(hands.transport, A_LITTLE)
    await stream.claim()
    assert stream.claimed
    assert (await bus.durable.store.read(task.task_id)).worker == hands.sender.source


async def test_who_ends_a_task_and_is_behind_claims_it_once(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    task = await bus.submit("taken", "x", delivery="durable")
    hands = await house.hands()
    await (hands.begin(await hands.take("taken", SETTINGS))).claim()
    ender = await house.hands("hands-2")
    behind(ender.transport, A_LITTLE)
    while not (await ender.store.read(task.task_id)).worker:
        await asyncio.sleep(A_LITTLE / 10)
    ending = Ending(TaskState.FAILED, error=error_object("AGENT_LOST", "nobody lived"))
    await close_task(ender.store, ender.sender, task.task_id, lambda _: ending)
    entries = await LogStore(bus.transport.streams()).entries(task.task_id)
    spine = [entry.message for entry in entries if entry.kind == "state"]
    assert len(spine) == 3
    assert isinstance(spine[-1], TaskFinal)


async def test_a_supervisor_that_does_not_know_a_task_yet_keeps_its_deadline(
    house: House,
) -> None:
    transport = await house.transport()
    behind(transport, LONG)
    await house.stack.enter_async_context(supervising(transport, SETTINGS))
    task = await (await house.bus()).submit("nobody", "x", delivery="durable", deadline=1)
    async with asyncio.timeout(20):
        with pytest.raises(TaskFailed, match="DEADLINE_EXCEEDED"):
            await task.result()
