"""Workers that die, lose a task, are told to stop, or have more offered than they can do."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Raw

from dragoman_agents import Agent, Context, serving
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.protocol.a2a import Message, Role, TaskState, text_part
from dragoman_bus.protocol.errors import TaskFailed
from dragoman_bus.protocol.messages import TaskFinal, TaskStatusUpdate
from dragoman_bus.service.log_stream import Fenced
from tests.integration.durable.conftest import SETTINGS, House
from tests.support.lagging import behind

pytestmark = pytest.mark.anyio

QUESTION = Message(message_id="q", role=Role.AGENT, parts=[text_part("Well?")])
DONE = Ending(TaskState.COMPLETED)


async def test_a_worker_that_lost_its_task_learns_it_and_stops(house: House) -> None:
    await house.supervisor()
    agent = Agent("loser")
    began, go, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @agent.skill
    async def hold_on(text: str, *, ctx: Context) -> str:
        await ctx.status("at work")
        began.set()
        try:
            await go.wait()
            while True:
                await ctx.status("still at work")
        finally:
            stopped.set()

    await house.serve(agent)
    bus = await house.bus()
    task = await bus.submit("hold_on", "x", delivery="durable")
    await began.wait()
    thief = await (await house.hands()).resume(task.task_id)
    await thief.claim()
    go.set()
    async with asyncio.timeout(10):
        await stopped.wait()
    await thief.end(DONE)
    log = await task.refresh()
    assert log.task.state is TaskState.COMPLETED
    assert [attempt.attempt for attempt in log.attempts] == [1, 2]
    assert "still at work" not in str(await bus.durable.store.entries(task.task_id))


async def test_a_claim_that_waited_for_the_end_is_not_written_behind_it(house: House) -> None:
    await house.supervisor()
    hands, bus = await house.hands(), await house.bus()
    task = await bus.submit("by_hand", "x", delivery="durable")
    stream = hands.begin(await hands.take("by_hand", SETTINGS))
    with pytest.raises(Fenced):
        await asyncio.gather(stream.end(DONE), stream.claim())
    spine = [e.message for e in await hands.store.entries(task.task_id) if e.kind == "state"]
    assert [type(message) for message in spine] == [TaskFinal]


async def test_a_claim_that_waited_for_a_question_does_not_take_the_task_back(
    house: House,
) -> None:
    await house.supervisor()
    hands, bus = await house.hands(), await house.bus()
    task = await bus.submit("by_hand", "x", delivery="durable")
    stream = hands.begin(await hands.take("by_hand", SETTINGS))
    with pytest.raises(Fenced):
        await asyncio.gather(stream.status(TaskState.INPUT_REQUIRED, QUESTION), stream.claim())
    assert (await task.refresh()).waits_for_reply
    assert task.log.worker == ""
    with pytest.raises(Fenced):
        await stream.status(TaskState.WORKING, QUESTION)


async def test_a_worker_that_dies_on_the_last_attempt_leaves_a_failure_that_names_it(
    house: House,
) -> None:
    await house.supervisor()
    hands, bus = await house.hands("dead-1"), await house.bus()
    task = await bus.submit("fragile", "x", delivery="durable", maximum_attempts=1)
    stream = hands.begin(await hands.take("fragile", SETTINGS))
    await stream.claim()
    agent = Agent("survivor")

    @agent.skill
    async def fragile(text: str) -> str:
        raise AssertionError("no attempt is left")

    await house.serve(agent)
    async with asyncio.timeout(15):
        with pytest.raises(TaskFailed, match="AGENT_LOST"):
            await task.result()
    letter = await bus.durable.dead_letters.get(task.task_id)
    (attempt,) = letter.data.attempts
    assert attempt.source == "/agents/hands/dead-1"
    assert attempt.ended_at
    assert attempt.error
    assert attempt.error.code == "AGENT_LOST"


async def test_a_worker_that_ignores_a_cancel_is_ended_by_the_supervisor(house: House) -> None:
    await house.supervisor(cancel_grace_seconds=1.0)
    hands, bus = await house.hands(), await house.bus()
    task = await bus.submit("deaf", "x", delivery="durable")
    stream = hands.begin(await hands.take("deaf", SETTINGS))
    await stream.claim()
    async with asyncio.timeout(15):
        assert await task.cancel("enough") is TaskState.CANCELED
    with pytest.raises(Fenced):
        await stream.status(TaskState.WORKING, QUESTION)
    with pytest.raises(Fenced):
        await stream.end(DONE)
    assert hands.lost.is_set()
    assert isinstance((await hands.store.entries(task.task_id))[-1].message, TaskFinal)
    log = await hands.store.read(task.task_id)
    (attempt,) = log.attempts
    assert (attempt.source, attempt.error) == (hands.sender.source, log.task.error)


async def test_a_program_that_is_torn_down_gives_its_tasks_back(house: House) -> None:
    await house.supervisor()
    agent = Agent("torn")
    began = asyncio.Event()

    @agent.skill
    async def outlive(text: str, *, ctx: Context) -> str:
        if ctx.attempt == 1:
            began.set()
            await asyncio.sleep(60)
        return f"attempt {ctx.attempt}"

    async def program() -> None:
        transport = await house.transport()
        async with serving(agent, transport, ack_wait=2.0):
            await asyncio.sleep(60)

    running = asyncio.create_task(program())
    bus = await house.bus()
    task = await bus.submit("outlive", "x", delivery="durable")
    await began.wait()
    running.cancel()
    await asyncio.wait([running])
    assert not (await task.refresh()).ended
    assert task.log.worker == ""
    await house.serve(agent)
    async with asyncio.timeout(15):
        assert (await task.result()).text == "attempt 2"


async def test_a_skill_that_cancels_itself_has_failed(house: House) -> None:
    await house.supervisor()
    agent = Agent("muddled")

    @agent.skill
    async def give_in(text: str) -> str:
        raise asyncio.CancelledError

    await house.serve(agent)
    task = await (await house.bus()).submit("give_in", "x", delivery="durable")
    with pytest.raises(TaskFailed, match="canceled from within"):
        await task.result()


async def test_one_slot_and_many_queues_give_every_task_its_turn(house: House) -> None:
    await house.supervisor()
    agent = Agent("narrow", concurrency=1)
    for name in ("wash", "cook", "clean", "mend"):

        async def work(text: str) -> str:
            await asyncio.sleep(0.1)
            return text

        work.__name__ = name
        agent.skill(work)
    await house.serve(agent)
    bus = await house.bus()
    tasks = [
        await bus.submit(name, "x", delivery="durable")
        for _ in range(15)
        for name in ("wash", "cook", "clean", "mend")
    ]
    deliveries = [(await task.result()) and len(task.log.attempts) for task in tasks]
    assert max(deliveries) <= 1
    updates = [e.message for e in await bus.durable.store.entries(tasks[-1].task_id)]
    assert not any(isinstance(m, TaskStatusUpdate) and m.data.error for m in updates)


async def test_a_reply_is_served_by_another_replica(house: House) -> None:
    await house.supervisor()
    agent = Agent("polite")

    @agent.skill
    async def greet_later(text: str, *, ctx: Context) -> str:
        return f"{text}, {await ctx.ask('Who are you?')}"

    bus = await house.bus()
    async with serving(agent, await house.transport(), ack_wait=2.0) as first:
        task = await bus.submit("greet_later", "Hello", delivery="durable")
        async for _ in task:
            if task.question:
                break
        asked_by = task.instance
    assert asked_by == first.id
    await task.reply("Ada")
    await house.serve(agent)
    async with asyncio.timeout(15):
        assert (await task.result()).text == "Hello, Ada"
    assert task.instance != asked_by


async def test_a_task_ends_however_many_tasks_are_open_below_it(house: House) -> None:
    await house.supervisor()
    hands, bus = await house.hands(), await house.bus()
    await bus.submit("fertile", "x", delivery="durable")
    stream = hands.begin(await hands.take("fertile", SETTINGS))
    children = [f"fertile-child-{number}" for number in range(1100)]
    for child in children:
        await stream.child(child, "nobody")
    await stream.end(DONE)
    canceled = await hands.store.streams.read(LOG_STREAM, "dragoman.v1.evt.*.control", limit=2000)
    named = {stored.subject.split(".")[3] for stored in canceled.messages}
    assert named >= set(children)


@pytest.mark.parametrize("lag", [0.0, 0.3])
async def test_a_parent_whose_child_was_canceled_first_ends_as_canceled_too(
    house: House, lag: float
) -> None:
    await house.supervisor(cancel_grace_seconds=30.0)
    parent, child = Agent("parent_first"), Agent("child_first")
    began = asyncio.Event()

    @parent.skill
    async def lean_on(text: str, *, ctx: Context) -> str:
        return (await ctx.delegate("stay", text=text)).text

    @child.skill
    async def stay(text: str) -> str:
        began.set()
        await asyncio.sleep(60)
        return text

    transport = await house.transport()
    await house.stack.enter_async_context(serving(parent, transport, ack_wait=2.0))
    await house.serve(child)
    bus = await house.bus()
    task = await bus.submit("lean_on", "x", delivery="durable")
    await began.wait()
    below = bus.durable.task((await task.refresh()).children[0])
    # Its node of a cluster may be behind with the log.
    behind(transport, lag)
    # The parent's worker does not hear: its cancel is in the log, and no more than that.
    for subscription in list(transport._connection.attached):
        if f".inst.{task.instance}." in subscription.subject:
            await subscription.unsubscribe()
    await task.request_cancel("enough")
    assert await below.cancel("enough") is TaskState.CANCELED
    async with asyncio.timeout(20):
        while not (await task.refresh()).ended:
            await asyncio.sleep(0.1)
    assert task.state is TaskState.CANCELED


async def test_what_was_written_before_a_claim_is_known_to_it_and_nothing_is_written_after(
    house: House,
) -> None:
    await house.supervisor()
    slow, quick, bus = await house.hands("slow"), await house.hands("quick"), await house.bus()
    task = await bus.submit("contested", "x", delivery="durable")
    first = slow.begin(await slow.take("contested", SETTINGS))
    await first.claim()
    second = await quick.resume(task.task_id)
    await first.step("pay", Raw(b'"paid"'))
    await second.claim()
    assert second.log.steps == {"pay": Raw(b'"paid"')}
    with pytest.raises(Fenced):
        await first.step("pack", Raw(b'"packed"'))
