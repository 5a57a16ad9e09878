"""What a task puts on the wire."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest

from dragoman_agents import Agent, serving
from dragoman_bus import connect
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import connect_nats

pytestmark = pytest.mark.anyio

TASKS = 200
BESIDE = 60
"""Messages beside those of tasks: leases, and now and then a look for the three queues."""


def received(server: NatsServer) -> int:
    """How many messages the server has taken."""
    address = f"http://127.0.0.1:{server.monitoring_port}/varz"
    with urllib.request.urlopen(address, timeout=5) as answer:
        return int(json.load(answer)["in_msgs"])


async def test_a_direct_task_is_a_request_and_an_answer(tmp_path: Path) -> None:
    agent = Agent("alone", concurrency=4)

    @agent.skill
    async def echo(text: str) -> str:
        return text

    with NatsServer(tmp_path, monitoring_port=0) as server:
        transport = await connect_nats(server.url)
        async with serving(agent, transport), connect(server.url) as bus:
            before = await asyncio.to_thread(received, server)
            for _ in range(TASKS):
                await bus.ask("echo", "hello")
            after = await asyncio.to_thread(received, server)
        await transport.close()
    assert 2 * TASKS <= after - before <= 2 * TASKS + BESIDE
