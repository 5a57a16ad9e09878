"""Agents served by ``dragoman run`` appear, answer, and leave, as other processes see it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import Any

import pytest

from dragoman_bus.client import Bus, connect
from dragoman_bus.protocol.subjects import REGISTRY_BUCKET
from dragoman_bus.registry.view import AgentView
from dragoman_bus.server import NatsServer
from tests.integration.cli.programs import EXAMPLES, run, start

pytestmark = pytest.mark.anyio

ECHO = str(EXAMPLES / "echo.py:agent")
LEASE = 2.0


def is_ready(line: dict[str, Any]) -> bool:
    return bool(line["event"] == "ready")


async def shown(url: str) -> list[dict[str, Any]]:
    code, output, _ = await run("ls", "--json", "--server", url)
    assert code == 0
    agents: list[dict[str, Any]] = json.loads(output)["agents"]
    return agents


def serve_echo(url: str, *options: str) -> Any:
    return start("run", ECHO, "--server", url, "--lease", str(LEASE), "--json", *options)


async def gone(bus: Bus, within: float) -> float:
    """Seconds until the registry shows nobody."""
    started = time.monotonic()
    directory = await bus.directory()
    async with asyncio.timeout(within):
        await directory.wait_for(lambda views: not views)
    return time.monotonic() - started


async def seen(bus: Bus) -> list[AgentView]:
    directory = await bus.directory()
    async with asyncio.timeout(10):
        return await directory.wait_for(bool)


async def test_an_agent_from_a_ten_line_file_appears_within_a_second_and_answers(
    nats_server: NatsServer,
) -> None:
    async with connect(nats_server.url) as bus, serve_echo(nats_server.url) as program:
        ready = await program.line(is_ready)
        async with asyncio.timeout(1):
            await seen(bus)
        (agent,) = await shown(nats_server.url)
        code, output, errors = await run("ask", "echo", "hello", "--server", nats_server.url)

        assert agent["agent"] == "parrot"
        assert agent["instances"][0]["instance"] == ready["instance"]
        assert (code, output) == (0, "hello\n")
        assert "parrot" in errors
        assert "no language model" in errors
        await program.end(signal.SIGTERM)


async def test_a_killed_agent_vanishes_within_its_lease_and_three_seconds(
    nats_server: NatsServer,
) -> None:
    async with connect(nats_server.url) as bus, serve_echo(nats_server.url) as program:
        await program.line(is_ready)
        await seen(bus)
        await program.end(signal.SIGKILL)

        await gone(bus, within=LEASE + 3)

    assert await shown(nats_server.url) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stopped_agent_says_goodbye_and_ends_with_0(
    nats_server: NatsServer, number: int
) -> None:
    async with connect(nats_server.url) as bus, serve_echo(nats_server.url) as program:
        await program.line(is_ready)
        await seen(bus)
        leaving = asyncio.create_task(gone(bus, within=LEASE))

        assert await program.end(number) == 0
        # Far less than the lease: it was told, not noticed.
        assert await leaving < LEASE / 2


async def test_replicas_share_one_name_and_end_together(nats_server: NatsServer) -> None:
    async with serve_echo(nats_server.url, "--replicas", "2") as program:
        instances = set()
        for _ in range(2):
            line = await program.line(lambda line: line["event"] == "process.ready")
            instances.add(line["process"]["instance"])
        (agent,) = await shown(nats_server.url)

        assert {lease["instance"] for lease in agent["instances"]} == instances
        assert await program.end(signal.SIGTERM) == 0
    assert await shown(nats_server.url) == []


async def test_replicas_end_when_their_supervisor_is_killed(nats_server: NatsServer) -> None:
    async with connect(nats_server.url) as bus:
        async with serve_echo(nats_server.url, "--replicas", "2") as program:
            for _ in range(2):
                await program.line(lambda line: line["event"] == "process.ready")
            await program.end(signal.SIGKILL)

        await gone(bus, within=LEASE + 3)


async def test_ls_names_junk_in_the_registry_and_deletes_it_when_told(
    nats_server: NatsServer,
) -> None:
    async with connect(nats_server.url) as bus:
        bucket = await bus.transport.key_value(REGISTRY_BUCKET)
        for key in ("inst.parrot.junk", "inst.parrot.more"):
            await bucket.put(key, b"junk")
    arguments = ("ls", "--server", nats_server.url)
    _, _, before = await run(*arguments)
    _, _, elsewhere = await run(*arguments, "owl")
    code, output, errors = await run(*arguments, "--prune", "--json")
    _, _, after = await run(*arguments, "--prune")

    lines = [json.loads(line) for line in output.splitlines()]
    assert "inst.parrot.junk" in before
    assert "dragoman ls --prune" in before
    assert "inst.parrot" not in elsewhere
    assert (code, errors) == (0, "")
    assert [line.get("key") for line in lines] == ["inst.parrot.junk", "inst.parrot.more", None]
    assert all(line["reason"] for line in lines[:-1])
    assert "inst.parrot" not in after
