"""A durable ensemble survives its worker, and does not pay its members twice."""

from __future__ import annotations

import asyncio

import pytest

from dragoman_agents import Agent, serving
from dragoman_agents.ensembles.agents import consensus, failover
from dragoman_bus.client import Bus
from dragoman_bus.protocol.a2a import TaskState
from tests.integration.durable.conftest import House
from tests.support.ensemble_stage import account_of, outcomes_of

pytestmark = pytest.mark.anyio


async def member(
    house: House, name: str, said: str, calls: list[str], gate: asyncio.Event | None = None
) -> None:
    agent = Agent(name)

    @agent.skill
    async def guess(text: str) -> str:
        calls.append(name)
        if gate is not None:
            await gate.wait()
        return said

    await house.serve(agent)


async def ready(bus: Bus, *names: str) -> None:
    directory = await bus.directory()
    async with asyncio.timeout(10):
        await directory.wait_for(lambda views: set(names) <= {view.name for view in views})


async def test_a_restart_does_not_pay_members_twice(house: House) -> None:
    await house.supervisor()
    calls: list[str] = []
    gate = asyncio.Event()
    await member(house, "quick", "a", calls)
    await member(house, "slow", "a", calls, gate)
    dying = await house.transport()
    doomed = serving(
        consensus("vote", skill="guess", members=["quick", "slow"], quorum=2), dying, ack_wait=2.0
    )
    await doomed.__aenter__()
    bus = await house.bus()
    await ready(bus, "vote", "quick", "slow")
    task = await bus.submit("guess", "what?", agent="vote", delivery="durable", deadline=60)
    while len(calls) < 2:
        await asyncio.sleep(0.01)

    await dying.close()  # the worker dies while one member has answered and one has not
    await house.serve(consensus("vote", skill="guess", members=["quick", "slow"], quorum=2))
    gate.set()
    async with asyncio.timeout(40):
        result = await task.result()

    assert result.value == "a"
    assert sorted(calls) == ["quick", "slow"]
    assert sorted(outcomes_of(account_of(result)).values()) == ["agreed", "chosen"]
    assert len(task.log.attempts) == 2


async def test_losers_of_a_durable_vote_are_canceled(house: House) -> None:
    await house.supervisor()
    calls: list[str] = []
    for name in ("one", "two"):
        await member(house, name, "a", calls)
    await member(house, "never", "b", calls, asyncio.Event())
    await house.serve(consensus("vote", skill="guess", members=["one", "two", "never"]))
    bus = await house.bus()
    await ready(bus, "vote", "one", "two", "never")

    task = await bus.submit("guess", "what?", agent="vote", delivery="durable", deadline=60)
    async with asyncio.timeout(30):
        result = await task.result()

    assert result.value == "a"
    states = []
    for child in task.log.children:
        below = bus.durable.task(child)
        async with asyncio.timeout(10):
            async for _ in below:
                pass
        states.append(below.state)
    assert sorted(state.value for state in states) == [
        TaskState.CANCELED.value,
        TaskState.COMPLETED.value,
        TaskState.COMPLETED.value,
    ]


async def test_a_durable_task_falls_back_at_once(house: House) -> None:
    await house.supervisor()
    calls: list[str] = []
    bad = Agent("bad")

    @bad.skill
    async def guess(text: str) -> str:
        calls.append("bad")
        raise RuntimeError("no")

    await house.serve(bad)
    await member(house, "good", "b", calls)
    agent = failover(
        "steady", skill="guess", members=["bad", "good"], fallback="any", attempts_per_member=1
    )
    await house.serve(agent)
    bus = await house.bus()
    await ready(bus, "steady", "bad", "good")

    task = await bus.submit("guess", "what?", agent="steady", delivery="durable", deadline=60)
    async with asyncio.timeout(30):
        result = await task.result()

    assert result.value == "b"
    assert calls == ["bad", "good"]
    assert outcomes_of(account_of(result))["bad"] == "failed"
