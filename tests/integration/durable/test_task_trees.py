"""Tasks below tasks, tasks after tasks, and tasks one after the other."""

from __future__ import annotations

import asyncio

import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.client import dead_letters
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import BusUnavailable, RemoteError, TaskFailed, TaskRejected
from dragoman_bus.protocol.payloads import Usage
from dragoman_bus.protocol.timestamps import parse_timestamp
from tests.integration.durable.conftest import House

pytestmark = pytest.mark.anyio


def family(order: list[str], started: asyncio.Event) -> list[Agent]:
    """A parent that delegates to a child that takes its time."""
    parent, child = Agent("parent"), Agent("child", concurrency=4)

    @parent.skill
    async def lead(text: str, *, ctx: Context) -> str:
        return (await ctx.delegate("work", text=text)).text

    @parent.skill
    async def rely(text: str, *, ctx: Context) -> str:
        return (await ctx.delegate("give_up", text=text)).text

    @parent.skill
    async def hand_on(text: str, *, ctx: Context) -> str:
        return ctx.afterwards("work", {"text": text})

    @child.skill
    async def work(text: str) -> str:
        order.append(text)
        started.set()
        if text == "slow":
            await asyncio.sleep(60)
        if text == "short":
            await asyncio.sleep(0.2)
        return f"did {text}"

    @child.skill
    async def give_up(text: str) -> str:
        raise RemoteError("nope", code="OVERLOADED", retryable=True)

    @child.skill
    async def fail(text: str) -> str:
        raise ValueError(text)

    return [parent, child]


@pytest.fixture
def order() -> list[str]:
    """What was begun, in order."""
    return []


@pytest.fixture
async def started(house: House, order: list[str]) -> asyncio.Event:
    """Serves the family; set when the child has begun."""
    begun = asyncio.Event()
    await house.supervisor(cancel_grace_seconds=2.0)
    for agent in family(order, begun):
        await house.serve(agent)
    return begun


async def test_a_delegated_task_is_durable_too(house: House, started: asyncio.Event) -> None:
    bus = await house.bus()
    task = await bus.submit("lead", "a thing", delivery="durable")
    assert (await task.result()).text == "did a thing"
    child = bus.durable.task(task.log.children[0])
    assert (await child.result()).text == "did a thing"
    lineage = child.log.data.lineage
    assert lineage
    assert lineage.parent_task_id == task.task_id


async def test_cancel_reaches_every_task_below(house: House, started: asyncio.Event) -> None:
    bus = await house.bus()
    task = await bus.submit("lead", "slow", delivery="durable")
    await started.wait()
    assert await task.cancel() is TaskState.CANCELED
    child = bus.durable.task((await task.refresh()).children[0])
    async with asyncio.timeout(10):
        async for _ in child:
            pass
    assert child.state is TaskState.CANCELED


async def test_a_failed_child_fails_its_parent_at_once(
    house: House, started: asyncio.Event
) -> None:
    bus = await house.bus()
    task = await bus.submit("rely", "x", delivery="durable", maximum_attempts=2)
    async with asyncio.timeout(20):
        with pytest.raises(TaskFailed, match="nope"):
            await task.result()
    assert len(task.log.attempts) == 1


async def test_what_comes_afterwards_is_submitted_with_the_end(
    house: House, started: asyncio.Event
) -> None:
    bus = await house.bus()
    task = await bus.submit("hand_on", "later", delivery="durable")
    follow_up = bus.durable.task((await task.result()).text)
    async with asyncio.timeout(10):
        while True:
            try:
                assert (await follow_up.result()).text == "did later"
                break
            except TaskRejected:
                await asyncio.sleep(0.05)


async def test_ordered_tasks_of_a_context_run_one_after_the_other(
    house: House, started: asyncio.Event, order: list[str]
) -> None:
    bus = await house.bus()
    words = ["short", "second", "third"]
    tasks = [
        await bus.submit(
            "work", {"text": word}, delivery="durable", context_id="line-1", ordered=True
        )
        for word in words
    ]
    results = [(await task.result()).text for task in tasks]
    assert results == [f"did {word}" for word in words]
    assert order == words


async def test_a_failure_leaves_a_dead_letter_that_is_redriven_once(
    house: House, started: asyncio.Event
) -> None:
    bus = await house.bus()
    task = await bus.submit("fail", "broken", delivery="durable")
    with pytest.raises(TaskFailed):
        await task.result()
    letter = await bus.durable.dead_letters.get(task.task_id)
    assert letter.is_open
    assert letter.data.error.code == "SKILL_FAILED"
    assert [report.attempt for report in letter.data.attempts] == [1]
    first = await bus.durable.dead_letters.redrive(task.task_id, skill="work", agent="child")
    again = await bus.durable.dead_letters.redrive(task.task_id, skill="work", agent="child")
    assert first == again
    redriven = bus.durable.task(first)
    assert (await redriven.result()).text == "did broken"
    assert redriven.log.data.redrive_of == task.task_id
    with pytest.raises(TaskRejected, match="redriven as"):
        await bus.durable.dead_letters.drop(task.task_id)


async def test_a_redriven_task_takes_no_id_that_somebody_chose(
    house: House, started: asyncio.Event
) -> None:
    bus = await house.bus()
    long = "a" * 60
    for task_id in ("row-r1", "row-r2", f"{long}-1", f"{long}-2"):
        task = await bus.submit("fail", "broken", delivery="durable", task_id=task_id)
        with pytest.raises(TaskFailed):
            await task.result()
    letters = bus.durable.dead_letters
    first = await letters.redrive("row-r1")
    assert first == "row-r1-r1"
    with pytest.raises(TaskFailed):
        await bus.durable.task(first).result()
    assert await letters.redrive(first) == "row-r1-r2"
    assert await letters.redrive(f"{long}-1") != await letters.redrive(f"{long}-2")
    await bus.submit("work", "x", delivery="durable", task_id="row-r2-r1")
    with pytest.raises(TaskRejected, match="TASK_CONFLICT"):
        await letters.redrive("row-r2")


async def test_lists_show_tasks_by_state_and_context(house: House, started: asyncio.Event) -> None:
    bus = await house.bus()
    done = await bus.submit("work", {"text": "x"}, delivery="durable", context_id="listed")
    await done.result()
    waiting = await bus.submit("nobody", "x", delivery="durable", context_id="listed")
    found = [task async for task in bus.durable.tasks(context_id="listed")]
    assert [(task.task_id, task.state) for task in found] == [
        (done.task_id, TaskState.COMPLETED),
        (waiting.task_id, TaskState.SUBMITTED),
    ]
    open_ones = [
        task.task_id
        async for task in bus.durable.tasks(context_id="listed", state=TaskState.SUBMITTED)
    ]
    assert open_ones == [waiting.task_id]


async def test_limits_shrink_on_the_way_down_and_a_loop_is_refused(house: House) -> None:
    await house.supervisor()
    upper, lower = Agent("upper"), Agent("lower")
    keys: list[str] = []

    @upper.skill
    async def descend(text: str, *, ctx: Context) -> str:
        ctx.report_usage(Usage(input_tokens=30, output_tokens=10, source="provider"))
        keys.append(ctx.idempotency_key("pay"))
        return (await ctx.delegate("below", text=text)).text

    @lower.skill
    async def below(text: str, *, ctx: Context) -> str:
        keys.append(ctx.idempotency_key("pay"))
        if text == "loop":
            return (await ctx.delegate("descend", text=text)).text
        return text

    for agent in (upper, lower):
        await house.serve(agent)
    bus = await house.bus()
    limits = {"delivery": "durable", "deadline": 60, "max_tokens": 100, "max_hops": 3}
    task = await bus.submit("descend", "plain", **limits)
    result = await task.result()
    child = bus.durable.task(task.log.children[0])
    given = (await child.refresh()).data.limits
    assert given
    assert given.max_tokens == 60
    assert given.max_hops == 2
    assert parse_timestamp(given.deadline) <= task.log.deadline  # type: ignore[arg-type]
    assert result.usage
    assert result.usage.input_tokens == 30
    assert keys == [f"{task.task_id}:pay", f"{child.task_id}:pay"]
    loop = await bus.submit("descend", "loop", **limits)
    with pytest.raises(TaskFailed, match="came back to an agent above it"):
        await loop.result()


async def test_a_redrive_whose_caller_died_is_queued_by_the_supervisor(
    house: House, started: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await house.bus()
    task = await bus.submit("fail", "broken", delivery="durable")
    with pytest.raises(TaskFailed):
        await task.result()

    async def dies(*_: object, **__: object) -> None:
        raise BusUnavailable("killed")

    monkeypatch.setattr(dead_letters, "enqueue", dies)
    with pytest.raises(BusUnavailable, match="killed"):
        await bus.durable.dead_letters.redrive(task.task_id, skill="work", agent="child")
    letter = await bus.durable.dead_letters.get(task.task_id)
    assert letter.settlement
    async with asyncio.timeout(20):
        redriven = bus.durable.task(str(letter.settlement.redriven_as))
        assert (await redriven.result()).text == "did broken"
