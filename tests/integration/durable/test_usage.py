"""What a task has used is known over all of its attempts, and its limits hold for all together."""

from __future__ import annotations

import pytest
from msgspec import Raw

from dragoman_agents import Agent, Context
from dragoman_bus.protocol.errors import RemoteError, TaskFailed
from dragoman_bus.protocol.payloads import Usage
from tests.integration.durable.conftest import SETTINGS, House
from tests.integration.durable.hands import Hands

pytestmark = pytest.mark.anyio


def used(tokens: int) -> Usage:
    return Usage(input_tokens=tokens, output_tokens=0, calls=1, source="provider")


def spender() -> Agent:
    agent = Agent("spender")

    @agent.skill
    async def try_twice(text: str, ctx: Context) -> str:
        """Fails once, having paid."""
        ctx.report_usage(used(10))
        if ctx.attempt == 1:
            raise RemoteError("try again", code="OVERLOADED", retryable=True)
        return text

    @agent.skill
    async def ask_back(text: str, ctx: Context) -> str:
        """Pays, asks, and pays again."""
        await ctx.step("pay", lambda: pay(ctx))
        reply = await ctx.ask("go on?")
        ctx.report_usage(used(5))
        return f"{text} {reply}"

    @agent.skill
    async def pay_once(text: str, ctx: Context) -> str:
        """A step that is paid for once."""
        await ctx.step("pay", lambda: pay(ctx))
        return text

    return agent


def chief() -> Agent:
    agent = Agent("chief")

    @agent.skill
    async def delegate(text: str, ctx: Context) -> str:
        """Delegates, and fails once after that."""
        ctx.report_usage(used(1))
        result = await ctx.delegate("pay_once", text=text)
        if ctx.attempt == 1:
            raise RemoteError("try again", code="OVERLOADED", retryable=True)
        return result.text

    return agent


async def pay(ctx: Context) -> str:
    ctx.report_usage(used(100))
    return "paid"


def tokens(usage: Usage | None) -> object:
    return None if usage is None else (usage.input_tokens, usage.calls)


@pytest.fixture
async def agent(house: House) -> None:
    await house.supervisor()
    await house.serve(spender())


async def test_what_earlier_attempts_used_counts_in_the_end(house: House, agent: None) -> None:
    bus = await house.bus()
    result = await bus.ask("try_twice", "x", delivery="durable", deadline=30)
    assert tokens(result.usage) == (20, 2)


async def test_a_limit_holds_for_all_attempts_together(house: House, agent: None) -> None:
    bus = await house.bus()
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("try_twice", "x", delivery="durable", deadline=30, max_tokens=15)
    assert failed.value.code == "LIMIT_EXCEEDED"
    assert tokens(failed.value.task_usage) == (20, 2)


async def test_what_was_used_before_a_question_counts_after_the_reply(
    house: House, agent: None
) -> None:
    bus = await house.bus()
    task = await bus.submit("ask_back", "well", delivery="durable", deadline=30)
    async for _ in task:
        if task.question is not None:
            await task.reply("yes")
    result = await task.result()
    assert (result.text, tokens(result.usage)) == ("well yes", (105, 2))


async def test_tasks_below_are_counted_once_however_often_they_are_found_again(
    house: House, agent: None
) -> None:
    await house.serve(chief())
    bus = await house.bus()
    result = await bus.ask("delegate", "x", delivery="durable", deadline=30)
    assert tokens(result.usage) == (102, 3)


async def test_a_step_that_was_paid_for_counts_after_its_worker_died(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    task = await bus.submit("pay_once", "x", delivery="durable", deadline=30)
    dead = Hands(bus.transport)
    stream = dead.begin(await dead.take("pay_once", SETTINGS))
    await stream.step("pay", Raw(b'"paid"'), used(100))
    # Nobody extends its ack wait any more, so the task goes to the next worker.
    await house.serve(spender())
    result = await task.result()
    assert tokens(result.usage) == (100, 1)
