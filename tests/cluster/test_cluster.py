"""A bus on a cluster goes on when a node dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dragoman_agents import Agent, serving
from dragoman_bus import Bus, DragomanError
from dragoman_bus.transports.nats import NatsTransport, connect_nats
from dragoman_bus.transports.port import BucketSettings
from tests.cluster.conftest import NODES, Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.containers]


async def until_it_works(work: Callable[[], Awaitable[object]], seconds: float = 60) -> object:
    """Repeat ``work`` until the cluster lets it: elections take a moment and have no event here."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await work()
            except DragomanError:
                await asyncio.sleep(0.2)


async def connected(url: str) -> NatsTransport:
    transport = await until_it_works(lambda: connect_nats(url))
    assert isinstance(transport, NatsTransport)
    return transport


async def test_tasks_cross_nodes_and_survive_the_death_of_one(cluster: Cluster) -> None:
    agent = Agent("echo")

    @agent.skill
    async def echo(text: str) -> str:
        return text

    transports = [await connected(cluster.node_url(name)) for name in NODES[:2]]
    settings = BucketSettings(replicas=3)
    await until_it_works(lambda: transports[0].key_value("dragoman_registry", settings=settings))

    everywhere = await connected(cluster.url)
    async with serving(agent, everywhere), Bus(transports[1]) as caller:
        assert (await caller.ask("echo", "across nodes")).text == "across nodes"

        cluster.kill(NODES[2])

        async def ask() -> str:
            return (await caller.ask("echo", "one node less", deadline=5)).text

        assert await until_it_works(ask) == "one node less"
        views = await until_it_works(lambda: caller.discover(agent="echo"))
        assert [view.name for view in views] == ["echo"]  # type: ignore[attr-defined]
    for transport in (*transports, everywhere):
        await transport.close()


async def test_an_agent_moves_to_another_node_when_its_own_dies(cluster: Cluster) -> None:
    agent = Agent("mover")

    @agent.skill
    async def echo(text: str) -> str:
        return text

    # The agent knows all nodes and starts at the first that answers; the caller uses the last.
    serving_side = await connected(cluster.url)
    calling_side = await connected(cluster.node_url(NODES[2]))
    settings = BucketSettings(replicas=3)
    await until_it_works(lambda: calling_side.key_value("dragoman_registry", settings=settings))
    async with serving(agent, serving_side), Bus(calling_side) as caller:
        assert (await caller.ask("echo", "before")).text == "before"

        cluster.kill(NODES[0])

        async def ask() -> str:
            return (await caller.ask("echo", "after", deadline=5)).text

        assert await until_it_works(ask) == "after"
    await serving_side.close()
    await calling_side.close()
