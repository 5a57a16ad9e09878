"""Death, departure and a restarted server, with agents in operating-system processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dragoman_bus import Bus, connect
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent
from dragoman_bus.protocol.errors import AgentLost
from dragoman_bus.server import NatsServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

LEASE_SECONDS = 1.0

PROGRAM = """
import asyncio, sys
from dragoman_agents import Agent, Context, serve

agent = Agent("worker", description="Counts slowly")

@agent.skill
async def slow(pieces: int, pause: float, ctx: Context) -> str:
    words = []
    for number in range(pieces):
        await asyncio.sleep(pause)
        words.append(f"{number} ")
        await ctx.emit(words[-1])
    return "".join(words)

asyncio.run(serve(agent, sys.argv[1], lease_seconds=float(sys.argv[2])))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as running:
        yield running


class Workers:
    """Worker processes by pid."""

    def __init__(self, url: str, program: Path) -> None:
        self.url = url
        self.program = program
        self.processes: list[asyncio.subprocess.Process] = []

    async def start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(self.program), self.url, str(LEASE_SECONDS)
        )
        self.processes.append(process)
        return process

    async def stop(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def workers(server: NatsServer, tmp_path: Path) -> AsyncIterator[Workers]:
    program = tmp_path / "worker.py"
    program.write_text(PROGRAM)
    made = Workers(server.url, program)
    yield made
    await made.stop()


async def instances(bus: Bus) -> int:
    return sum(len(view.instances) for view in await bus.discover(agent="worker"))


async def seen(bus: Bus, number: int, timeout: float = 15.0) -> None:
    async def exactly() -> bool:
        return await instances(bus) == number

    await eventually(exactly, timeout)


def pieces(updates: list[object]) -> list[str]:
    return [
        str(part.text)
        for update in updates
        if isinstance(update, TaskArtifactUpdateEvent)
        for part in update.artifact.parts
    ]


async def test_a_killed_agent_is_a_clear_error_and_leaves_the_registry(
    server: NatsServer, workers: Workers
) -> None:
    process = await workers.start()
    async with connect(server.url) as bus:
        await seen(bus, 1)
        task = await bus.submit("slow", {"pieces": 100, "pause": 0.1})
        await anext(aiter(task))
        os.kill(process.pid, signal.SIGKILL)

        with pytest.raises(AgentLost, match="worker") as lost:
            await asyncio.wait_for(task.result(), 15)
        assert lost.value.side_effects == "possible"
        await seen(bus, 0, timeout=LEASE_SECONDS + 3)


async def test_a_killed_replica_leaves_the_work_to_the_other(
    server: NatsServer, workers: Workers
) -> None:
    first, _ = await workers.start(), await workers.start()
    async with connect(server.url) as bus:
        await seen(bus, 2)
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()

        for _ in range(20):
            result = await bus.ask("slow", {"pieces": 1, "pause": 0})
            assert result.text == "0 "


async def test_sigterm_finishes_the_running_task_and_says_goodbye(
    server: NatsServer, workers: Workers
) -> None:
    process = await workers.start()
    async with connect(server.url) as bus:
        await seen(bus, 1)
        task = await bus.submit("slow", {"pieces": 10, "pause": 0.1})
        stream = aiter(task)
        await anext(stream)
        process.send_signal(signal.SIGTERM)

        rest = [update async for update in stream]

        assert len(pieces(rest)) == 9
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await seen(bus, 0, timeout=1)


async def test_a_stream_continues_over_a_restart_of_the_server(
    server: NatsServer, workers: Workers
) -> None:
    await workers.start()
    async with connect(server.url) as bus:
        await seen(bus, 1)
        task = await bus.submit("slow", {"pieces": 60, "pause": 0.1}, deadline=60)
        stream = aiter(task)
        first = [await anext(stream) for _ in range(5)]
        server.kill()
        await server.restart_async()

        rest = [update async for update in stream]

        assert "".join(pieces([*first, *rest])) == "".join(f"{n} " for n in range(60))
        assert (await task.result()).text == "".join(f"{n} " for n in range(60))
        await seen(bus, 1)
        assert (await bus.ask("slow", {"pieces": 1, "pause": 0})).text == "0 "
