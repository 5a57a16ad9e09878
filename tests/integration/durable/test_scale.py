"""What the server holds for agents, skills, readers and tasks: the numbers of docs/durable.md."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import nats
import pytest
from nats.js import JetStreamContext

from dragoman_agents import Agent
from dragoman_bus.client.durable_task import DurableTask
from dragoman_bus.server import NatsServer
from tests.integration.durable.conftest import House
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[3] / "docs" / "durable.md"


class Held(NamedTuple):
    """What the server has."""

    streams: int
    consumers: int


def documented(subject: str) -> Held:
    row = re.search(rf"^\| {subject}[^|]*\| (\d+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert row is not None, subject
    return Held(int(row[1]), int(row[2]))


def agent(name: str, *skills: str) -> Agent:
    made = Agent(name, description="Counts for one")
    for skill in skills:

        @made.skill(id=skill)
        async def work(text: str) -> str:
            await asyncio.sleep(0)
            return text

    return made


@asynccontextmanager
async def counter(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(server.url)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def count(jetstream: JetStreamContext) -> Held:
    streams = await jetstream.streams_info()
    return Held(len(streams), sum(stream.state.consumer_count for stream in streams))


async def test_streams_and_consumers_grow_with_skills_and_agents_only(
    nats_server: NatsServer, house: House
) -> None:
    async with counter(nats_server) as jetstream:

        async def holds(expected: Held) -> None:
            async def fits() -> bool:
                return await count(jetstream) == expected

            await eventually(fits)

        supervisor = await house.supervisor()
        await eventually(lambda: supervisor.acts)
        bus = await house.bus()
        await bus.artifacts.put(b"large")
        base = documented("a bus with durable delivery")
        await holds(base)

        await house.serve(agent("first", "add", "subtract"))
        skills, agents = documented("each skill"), documented("each agent").consumers
        expected = Held(base.streams, base.consumers + 2 * skills.consumers + agents)
        await holds(expected)

        await house.serve(agent("second", "add"))
        expected = Held(base.streams, expected.consumers + agents)
        await holds(expected)

        await house.supervisor()
        for _ in range(3):
            await house.serve(agent("first", "add", "subtract"))
        tasks: list[DurableTask] = [
            await bus.submit("add", "x", delivery="durable") for _ in range(50)
        ]
        waiting = await bus.submit("absent", "x", delivery="durable")
        handles = [(await house.bus()).durable.task(waiting.task_id) for _ in range(5)]
        reading = [asyncio.create_task(handle.result()) for handle in handles]
        for task in tasks:
            assert (await task.result()).text == "x"
        still = documented("each task")
        assert still == documented("each further replica") == Held(0, 0)
        assert await count(jetstream) == expected

        for reader in reading:
            reader.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
