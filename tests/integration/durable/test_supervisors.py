"""Several supervisors: one acts, another takes over, and no action is lost in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import BusUnavailable, StreamFull, TaskFailed
from dragoman_bus.server import NatsServer
from dragoman_bus.supervisor import Supervisor, room, supervising
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.streams import Record
from tests.integration.durable.conftest import SETTINGS, House
from tests.support.lagging import behind

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Leadership has no event to wait for."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def test_of_several_supervisors_one_acts_and_another_takes_over(house: House) -> None:
    supervisors = [await house.supervisor(lease_seconds=1.0) for _ in range(3)]
    await until(lambda: sum(each.acts for each in supervisors) == 1)
    first = next(each for each in supervisors if each.acts)
    rest = [each for each in supervisors if each is not first]
    # It is killed: it does not resign, and its connection is gone.
    assert first._running is not None
    first._running.cancel()
    await first._transport.close()
    await until(lambda: sum(each.acts for each in rest) == 1)
    task = await (await house.bus()).submit("nobody", "x", delivery="durable")
    async with asyncio.timeout(15):
        assert await task.cancel() is TaskState.CANCELED


class Crash:
    """Kills a supervisor at one of its writes: before it is stored, or before it hears so."""

    def __init__(self, at: int, stored: bool) -> None:
        self.done = asyncio.Event()
        self._left = at
        self._stored = stored

    def arm(self, transport: NatsTransport) -> None:
        """Let the writes of a connection be counted."""
        streams = transport.streams()
        append = streams.append

        async def counted(stream: str, *records: Record) -> int:
            self._left -= 1
            if self._left > 0:
                return await append(stream, *records)
            if self._left == 0 and self._stored:
                await append(stream, *records)
            self.done.set()
            await transport.close()
            raise BusUnavailable("dead", retryable=False)

        streams.append = counted  # type: ignore[method-assign]


def family() -> Agent:
    """An agent for every thing a supervisor does."""
    agent = Agent("family", concurrency=8)

    @agent.skill
    async def wait(text: str) -> str:
        await asyncio.sleep(60)
        return text

    @agent.skill
    async def inquire(text: str, *, ctx: Context) -> str:
        return f"{text}, {await ctx.ask('Who?')}"

    @agent.skill
    async def hand_on(text: str, *, ctx: Context) -> str:
        return ctx.afterwards("echo_back", {"text": text})

    @agent.skill
    async def echo_back(text: str) -> str:
        return text

    return agent


@pytest.mark.parametrize("stored", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 4])
async def test_a_supervisor_that_dies_at_any_write_leaves_nothing_undone(
    house: House,
    nats_server: NatsServer,
    at: int,
    stored: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What the dead one had in hand comes to the next one sooner.
    monkeypatch.setattr("dragoman_bus.supervisor.supervisor.ACK_WAIT_SECONDS", 1.0)
    crash = Crash(at, stored)
    transport = await NatsTransport.connect(NatsOptions.from_url(nats_server.url))
    dying = Supervisor(transport, SETTINGS, cancel_grace_seconds=1.0, lease_seconds=1.0)
    await dying.start()
    await until(lambda: dying.acts)
    await house.serve(family())
    bus = await house.bus()
    asking = await bus.submit("inquire", "Hello", delivery="durable")
    running = await bus.submit("wait", "x", delivery="durable")
    async for _ in asking:
        if asking.question:
            break
    async for _ in running:
        break
    crash.arm(transport)
    late = await bus.submit("nobody", "x", delivery="durable", deadline=1)
    queued = await bus.submit("nobody", "x", delivery="durable")
    line = [
        await bus.submit(
            "echo_back",
            word,
            delivery="durable",
            context_id=f"line-{at}-{int(stored)}",
            ordered=True,
        )
        for word in ("one", "two")
    ]
    await asking.reply("Ada")
    for task in (running, queued):
        await task.request_cancel("enough")
    handing = await bus.submit("hand_on", "on", delivery="durable")
    async with asyncio.timeout(30):
        await crash.done.wait()
        if dying._running is not None:
            dying._running.cancel()
        await house.supervisor(cancel_grace_seconds=1.0, lease_seconds=1.0)
        assert (await asking.result()).text == "Hello, Ada"
        assert [(await task.result()).text for task in line] == ["one", "two"]
        for task in (running, queued):
            assert await task.cancel() is TaskState.CANCELED
        with pytest.raises(TaskFailed, match="DEADLINE_EXCEEDED"):
            await late.result()
        follow_up = bus.durable.task((await handing.result()).text)
        while not (await bus.durable.store.read(follow_up.task_id)).ended:
            await asyncio.sleep(0.1)


async def test_a_supervisor_that_reads_from_a_node_behind_forgets_nothing(house: House) -> None:
    transport = await house.transport()
    behind(transport, 0.5)
    await house.stack.enter_async_context(
        supervising(transport, SETTINGS, cancel_grace_seconds=1.0)
    )
    await house.serve(family())
    bus = await house.bus()
    asking = await bus.submit("inquire", "Hello", delivery="durable")
    line = [
        await bus.submit(
            "echo_back", word, delivery="durable", context_id="line-behind", ordered=True
        )
        for word in ("one", "two", "three")
    ]
    queued = await bus.submit("nobody", "x", delivery="durable")
    await queued.request_cancel("enough")
    async for _ in asking:
        if asking.question:
            break
    await asking.reply("Ada")
    async with asyncio.timeout(30):
        assert (await asking.result()).text == "Hello, Ada"
        assert [(await task.result()).text for task in line] == ["one", "two", "three"]
        assert await queued.cancel() is TaskState.CANCELED


async def test_a_log_that_fills_loses_the_oldest_ended_tasks_and_takes_new_ones(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(room, "YOUNGEST_SECONDS", 0.0)
    settings = msgspec.structs.replace(SETTINGS, log_bytes=2**18)
    await house.supervisor(settings)
    await house.serve(family())
    bus = await house.bus()
    waiting = await bus.submit("wait", "kept", delivery="durable")
    for number in range(150):
        while True:
            try:
                task = await bus.submit("echo_back", f"{number} " * 400, delivery="durable")
                break
            except StreamFull as error:
                # Refused until the next sweep, never lost.
                await asyncio.sleep((error.retry_after or 1.0) / 10)
        await task.result()
    kept = [task.task_id async for task in bus.durable.tasks()]
    assert waiting.task_id in kept
    assert len(kept) < 150
    assert await waiting.cancel() is TaskState.CANCELED
