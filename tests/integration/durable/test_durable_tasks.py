"""Durable tasks on a real server: accepted, run, streamed, failed, retried, answered, canceled."""

from __future__ import annotations

import asyncio
import math

import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.protocol.a2a import Message, Role, TaskState, TaskStatusUpdateEvent
from dragoman_bus.protocol.errors import ProtocolError, RemoteError, TaskFailed, TaskRejected
from tests.integration.durable.conftest import House

pytestmark = pytest.mark.anyio


def worker() -> Agent:
    """An agent whose skills show one thing each."""
    agent = Agent("worker", concurrency=4)

    @agent.skill
    async def shout(text: str) -> str:
        return text.upper()

    @agent.skill
    async def recite(text: str, *, ctx: Context) -> str:
        for word in text.split():
            await ctx.emit(f"{word} ")
        return "".join(f"{word} " for word in text.split())

    @agent.skill
    async def sleep(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "slept"

    @agent.skill
    async def stumble(times: int, *, ctx: Context) -> int:
        counts[ctx.task_id] = counts.get(ctx.task_id, 0) + 1
        if counts[ctx.task_id] <= times:
            raise RemoteError("try again", code="OVERLOADED", retryable=True)
        return counts[ctx.task_id]

    @agent.skill
    async def greet(text: str, *, ctx: Context) -> str:
        name = await ctx.ask("What is your name?")
        return f"{text}, {name}"

    @agent.skill
    async def deal(text: str, *, ctx: Context) -> str:
        counts["begun"] = counts.get("begun", 0) + 1

        async def pay() -> str:
            counts["dealt"] = counts.get("dealt", 0) + 1
            return text

        await ctx.step("pay", pay)
        return str(await ctx.ask("Which day?"))

    @agent.skill
    async def careful(text: str, *, ctx: Context) -> str:
        async def pay() -> str:
            counts["paid"] = counts.get("paid", 0) + 1
            return text * 2

        paid = await ctx.step("pay", pay)
        if counts.setdefault(ctx.task_id, 0) == 0:
            counts[ctx.task_id] = 1
            raise RemoteError("after paying", code="OVERLOADED", retryable=True)
        return str(paid)

    @agent.skill
    async def twice(text: str, *, ctx: Context) -> str:
        async def learn() -> dict[int, tuple[str, float]]:
            return {1: (text, math.nan)}

        seen = await ctx.step("learn", learn)
        if counts.setdefault(ctx.task_id, 0) == 0:
            counts[ctx.task_id] = 1
            raise RemoteError(repr(seen), code="OVERLOADED", retryable=True)
        return repr(seen)

    @agent.skill
    async def named(text: str, *, ctx: Context) -> str:
        async def pay() -> str:
            counts["named"] = counts.get("named", 0) + 1
            return text

        return str(await ctx.step(text, pay))

    return agent


counts: dict[str, int] = {}


async def test_a_durable_task_ends_with_its_result(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus = await house.bus()
    task = await bus.submit("shout", "hello", delivery="durable")
    assert (await task.result()).text == "HELLO"
    assert task.state is TaskState.COMPLETED


async def test_a_stream_is_whole_and_in_order(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus = await house.bus()
    words = " ".join(str(number) for number in range(300))
    task = await bus.submit("recite", words, delivery="durable")
    pieces = [
        part.text
        async for update in task
        for part in getattr(getattr(update, "artifact", None), "parts", ())
    ]
    assert "".join(map(str, pieces)) == words + " "
    assert (await task.result()).text == words + " "


async def test_a_retryable_failure_is_tried_again(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus = await house.bus()
    task = await bus.submit("stumble", {"times": 1}, delivery="durable")
    assert (await task.result()).value == 2
    assert [report.attempt for report in task.log.attempts] == [1, 2]


async def test_attempts_that_are_used_up_leave_a_failure(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus = await house.bus()
    task = await bus.submit("stumble", {"times": 9}, delivery="durable", maximum_attempts=2)
    with pytest.raises(TaskFailed):
        await task.result()


async def test_a_question_is_answered_later(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus = await house.bus()
    task = await bus.submit("greet", "Hello", delivery="durable")
    async for _ in task:
        if task.question:
            break
    assert task.question == "What is your name?"
    await task.reply("Ada")
    assert (await task.result()).text == "Hello, Ada"
    with pytest.raises(TaskRejected, match="TASK_NOT_WAITING"):
        await task.reply("Bob")


async def test_an_answered_task_goes_on_at_once_and_keeps_its_steps(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus = await house.bus()
    task = await bus.submit("deal", "x", delivery="durable")
    async for _ in task:
        if task.question:
            break
    await task.reply("Monday")
    assert (await task.result()).text == "Monday"
    assert (counts["begun"], counts["dealt"]) == (2, 1)


async def test_a_running_task_is_canceled(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus = await house.bus()
    task = await bus.submit("sleep", {"seconds": 60}, delivery="durable")
    async for _ in task:
        break
    assert await task.cancel("enough") is TaskState.CANCELED


async def test_a_queued_task_is_canceled_without_a_worker(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    task = await bus.submit("nobody", "x", delivery="durable")
    assert await task.cancel() is TaskState.CANCELED


async def test_a_cancel_lands_however_long_its_reason_is(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    task = await (await house.bus()).submit("sleep", {"seconds": 60}, delivery="durable")
    assert await task.cancel("because " * 1000) is TaskState.CANCELED
    assert task.log.cancel is not None
    assert task.log.cancel.reason == ("because " * 1000)[:1024]


async def test_a_reply_that_nobody_could_read_is_refused_and_the_task_still_waits(
    house: House,
) -> None:
    await house.supervisor()
    await house.serve(worker())
    task = await (await house.bus()).submit("greet", "hello", delivery="durable")
    async for update in task:
        if isinstance(update, TaskStatusUpdateEvent) and task.question:
            break
    empty = Message(message_id="m-1", role=Role.USER, parts=[])
    with pytest.raises(ProtocolError, match="parts"):
        await task.reply(empty)
    await task.reply("Ada")
    assert (await task.result()).text == "hello, Ada"


async def test_a_finished_step_is_not_done_again(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus = await house.bus()
    counts.pop("paid", None)
    task = await bus.submit("careful", "ab", delivery="durable")
    assert (await task.result()).text == "abab"
    assert counts["paid"] == 1
    assert len(task.log.attempts) == 2


async def test_a_step_gives_in_its_first_run_what_it_gives_from_the_log(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    task = await (await house.bus()).submit("twice", "ab", delivery="durable")
    assert (await task.result()).text == repr({"1": ["ab", None]})
    errors = [attempt.error for attempt in task.log.attempts if attempt.error]
    assert [error.message for error in errors] == [repr({"1": ["ab", None]})]


@pytest.mark.parametrize("name", ["", "n" * 257])
async def test_a_step_that_no_log_can_name_is_refused_before_it_is_done(
    house: House, name: str
) -> None:
    await house.supervisor()
    await house.serve(worker())
    counts.pop("named", None)
    task = await (await house.bus()).submit("named", {"text": name}, delivery="durable")
    with pytest.raises(TaskFailed, match=r"a step cannot be sent: .*`\$\.name`"):
        await task.result()
    assert "named" not in counts


async def test_a_deadline_ends_a_task_that_nobody_takes(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    task = await bus.submit("nobody", "x", delivery="durable", deadline=1.0)
    with pytest.raises(TaskFailed, match="DEADLINE_EXCEEDED"):
        await task.result()


async def test_the_same_submission_again_is_the_same_task(house: House) -> None:
    await house.supervisor()
    await house.serve(worker())
    bus, other = await house.bus(), await house.bus()
    first = await bus.submit("shout", "one", delivery="durable", task_id="same-1")
    second = await other.submit("shout", "one", delivery="durable", task_id="same-1")
    assert (await first.result()).text == (await second.result()).text == "ONE"
    with pytest.raises(TaskRejected, match="TASK_CONFLICT"):
        await bus.submit("shout", "two", delivery="durable", task_id="same-1")
    assert len((await first.refresh()).attempts) <= 1
