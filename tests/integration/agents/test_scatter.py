"""One publish reaches one replica of each agent, over both transports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from dragoman_agents import Agent, Context, serving
from dragoman_bus import Bus
from dragoman_bus.client import ScatterOutcome
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.errors import AgentLost, AgentUnavailable, ProtocolError
from dragoman_bus.protocol.messages import TaskCancel, TaskSubmit
from dragoman_bus.protocol.payloads import Lineage
from dragoman_bus.protocol.subjects import ask_subject
from dragoman_bus.transports.port import Delivery, Transport
from tests.support.scripted_agent import ScriptedAgent

pytestmark = pytest.mark.anyio

MakeTransport = Callable[[], Awaitable[Transport]]


class Field:
    """Agents that answer ``guess``, and one caller."""

    def __init__(self, stack: AsyncExitStack, make: MakeTransport) -> None:
        self._stack = stack
        self.make = make
        self.bus: Bus
        self.calls: list[str] = []
        self.canceled: asyncio.Queue[str] = asyncio.Queue()

    async def member(
        self, name: str, answer: str | Exception | None, *, concurrency: int = 4
    ) -> None:
        """An agent that answers, fails, or (``None``) never ends."""
        agent = Agent(name, concurrency=concurrency, queue=0)

        @agent.skill
        async def guess(text: str, ctx: Context) -> str:
            self.calls.append(name)
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                return answer
            try:
                await asyncio.Event().wait()
            finally:
                self.canceled.put_nowait(name)
            return "never"

        served = serving(agent, await self.make(), grace_seconds=1.0)
        await self._stack.enter_async_context(served)


@pytest.fixture
async def field(make_transport: MakeTransport) -> AsyncIterator[Field]:
    async with AsyncExitStack() as stack:
        made = Field(stack, make_transport)
        made.bus = await stack.enter_async_context(Bus(await make_transport()))
        yield made


async def gather(field: Field, **options: object) -> dict[str, ScatterOutcome]:
    async with field.bus.scatter("guess", "what?", **options) as outcomes:  # type: ignore[arg-type]
        return {outcome.agent: outcome async for outcome in outcomes}


async def test_each_agent_answers_once_whatever_its_replicas(field: Field) -> None:
    for name, answer in (("one", "a"), ("one", "a"), ("two", "b"), ("three", "c")):
        await field.member(name, answer)
    requests: list[Delivery] = []
    tap = await field.make()
    await tap.subscribe(ask_subject("guess"), requests.append)
    await tap.flush()

    outcomes = await asyncio.wait_for(gather(field), 10)

    said = {name: outcome.result.text for name, outcome in outcomes.items() if outcome.result}
    assert said == {"one": "a", "two": "b", "three": "c"}
    assert sorted(field.calls) == ["one", "three", "two"]
    assert len(requests) == 1
    instances = {outcome.instance for outcome in outcomes.values()}
    assert len(instances) == 3
    assert field.bus.in_flight == 0


async def test_errors_of_one_do_not_hide_the_answers_of_others(field: Field) -> None:
    await field.member("good", "yes")
    await field.member("bad", RuntimeError("broken"))

    outcomes = await asyncio.wait_for(gather(field), 10)

    assert outcomes["good"].result is not None
    assert outcomes["bad"].result is None
    error = outcomes["bad"].error
    assert error is not None
    assert error.code == "SKILL_FAILED"


async def test_leaving_early_cancels_the_losers(field: Field) -> None:
    await field.member("quick", "done")
    await field.member("slow", None)
    await field.member("slower", None)

    async with field.bus.scatter("guess", "what?") as outcomes:
        first = await asyncio.wait_for(anext(aiter(outcomes)), 10)
        assert first.agent == "quick"
        assert outcomes.pending == {"slow", "slower"}

    stopped = {await asyncio.wait_for(field.canceled.get(), 10) for _ in range(2)}
    assert stopped == {"slow", "slower"}


async def test_an_agent_speaks_up_before_its_skill_begins(field: Field) -> None:
    await field.member("slow", None)
    async with field.bus.scatter("guess", "what?") as outcomes:
        while field.calls != ["slow"]:
            await asyncio.sleep(0.01)
    # Nothing but its first message tells who has the task; it was there before the skill began.
    late = await outcomes.settle(5)
    assert [outcome.agent for outcome in late] == ["slow"]
    assert await asyncio.wait_for(field.canceled.get(), 10) == "slow"


async def test_when_nobody_listens_that_is_known_at_once(field: Field) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(AgentUnavailable):
        await gather(field)
    with pytest.raises(AgentUnavailable, match="nobody, noone"):
        await gather(field, agents=["nobody", "noone"])
    assert loop.time() - began < 1.5
    assert field.bus.in_flight == 0


async def test_only_the_audience_works_and_who_is_missing_is_told(field: Field) -> None:
    for name in ("one", "two", "three"):
        await field.member(name, name)

    outcomes = await asyncio.wait_for(gather(field, agents=["one", "three", "gone"]), 10)

    assert {name for name, outcome in outcomes.items() if outcome.result} == {"one", "three"}
    assert isinstance(outcomes["gone"].error, AgentUnavailable)
    assert sorted(field.calls) == ["one", "three"]


async def test_a_full_agent_is_asked_again_on_its_own(field: Field) -> None:
    await field.member("free", "a")
    await field.member("full", None, concurrency=1)
    holding = await field.bus.submit("guess", "hold", agent="full")
    while field.calls != ["full"]:
        await asyncio.sleep(0.01)

    async with field.bus.scatter("guess", "what?", retries=20) as outcomes:
        assert (await asyncio.wait_for(anext(aiter(outcomes)), 10)).agent == "free"
        await holding.cancel()
        while field.calls.count("full") < 2:
            await asyncio.sleep(0.01)
    assert field.calls.count("free") == 1

    outcomes = await asyncio.wait_for(gather(field, agents=["free"], deadline=5, retries=0), 10)
    assert outcomes["free"].result is not None


async def test_an_agent_above_in_the_lineage_is_not_expected_and_refuses(field: Field) -> None:
    await field.member("vote", "me")
    await field.member("member", "it")
    lineage = Lineage(parent_task_id="p", root_task_id="p", path=["vote"])

    outcomes = await asyncio.wait_for(gather(field, lineage=lineage), 10)

    assert outcomes.pop("member").result is not None
    assert [outcome.error and outcome.error.code for outcome in outcomes.values()] in (
        [],
        ["DELEGATION_LOOP"],
    )
    assert field.calls == ["member"]


async def test_an_agent_that_stays_silent_counts_as_lost(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman_bus.client.scatter.GATHER_SECONDS", 0.3)
    await field.member("there", "a")
    await field.bus.directory()
    mute = ScriptedAgent(await field.make(), "mute")
    await mute.start("guess")

    outcomes = await asyncio.wait_for(gather(field), 10)
    assert set(outcomes) == {"there"}

    registry_shows(field, monkeypatch, "there", "mute")
    outcomes = await asyncio.wait_for(gather(field), 10)
    assert isinstance(outcomes["mute"].error, AgentLost)
    assert outcomes["there"].result is not None


def registry_shows(field: Field, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make the caller believe that these agents are there, whoever is."""
    views = [SimpleNamespace(name=name, is_ready=True) for name in names]
    monkeypatch.setattr(field.bus, "discover", AsyncMock(return_value=views))


async def test_an_agent_that_speaks_up_after_the_end_is_canceled(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry_shows(field, monkeypatch, "quick", "late")
    await field.member("quick", "a")
    late = await ScriptedAgent(await field.make(), "late").start("guess")
    async with field.bus.scatter("guess", "what?") as outcomes:
        await asyncio.wait_for(anext(aiter(outcomes)), 10)
    submit, delivery = await late.expect(TaskSubmit)

    working = late.status(submit.data.task_id, 1, TaskState.WORKING)
    await late.send(delivery.reply, working)

    cancel, _ = await late.expect(TaskCancel)
    assert cancel.data.task_id == submit.data.task_id


async def test_garbage_and_uninvited_voices_on_the_reply_subject_are_dropped(field: Field) -> None:
    await field.member("one", "a")
    liar = await ScriptedAgent(await field.make(), "liar").start("guess")
    async with field.bus.scatter("guess", "what?", agents=["one"]) as outcomes:
        submit, delivery = await liar.expect(TaskSubmit)
        await liar.transport.publish(delivery.reply, b"\xff{")
        await liar.send(delivery.reply, liar.final(submit.data.task_id, 1, "a lie"))
        said = [outcome.agent async for outcome in outcomes]
    assert said == ["one"]


async def test_the_audience_travels_in_the_message(field: Field) -> None:
    taken: asyncio.Queue[Delivery] = asyncio.Queue()
    tap = await field.make()
    await tap.subscribe(ask_subject("guess"), taken.put_nowait)
    await tap.flush()
    await field.member("one", "a")

    await gather(field, agents=["one"])

    message = decode((await taken.get()).data)
    assert isinstance(message, TaskSubmit)
    assert message.data.audience == ["one"]
    assert decode(encode(message)) == message


async def test_a_scattered_task_is_never_durable(field: Field) -> None:
    await field.member("one", "a")
    with pytest.raises(ProtocolError, match="durable"):
        await gather(field, delivery="durable")
    assert field.calls == []
