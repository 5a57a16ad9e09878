"""What a caller does when nothing comes: promises, probes, reconnections, inboxes it may use."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from dragoman_bus import Bus, connect
from dragoman_bus.client import conversation as conversation_module
from dragoman_bus.protocol.errors import AgentLost, AgentUnavailable, DeadlineExceeded
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.memory import MemoryBroker
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from tests.conformance.caller_rules.raw_agent import RawAgent
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_promise_and_a_second_of_grace_pass_before_the_agent_is_asked(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    promised_at = time.monotonic()
    await agent.send(request.reply, agent.status(request.task, 1, keepAliveSeconds=0.4))

    probe = await agent.expect("task.subscribe")
    assert time.monotonic() - promised_at >= 1.4
    assert probe.data["after"] == 1
    await agent.send(
        probe.reply, agent.snapshot(request.task, 1), agent.final(request.task, 2, "was slow")
    )
    assert (await asyncio.wait_for(task.result(), 10)).text == "was slow"


async def test_a_gap_that_nobody_closes_is_asked_about_again_and_ends_nothing(
    bus: Bus, agent: RawAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "SILENCE_GRACE_SECONDS", 0.05)
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(request.reply, agent.chunk(request.task, 2, "b", keepAliveSeconds=60))

    for _ in range(conversation_module.MAXIMUM_PROBES + 2):
        repair = await agent.expect("task.subscribe")
    await agent.send(repair.reply, agent.chunk(request.task, 1, "a"), agent.final(request.task, 3))
    assert (await asyncio.wait_for(task.result(), 10)).text == "ab"


async def test_a_loss_after_acceptance_may_have_had_effects(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(
        request.reply,
        agent.chunk(request.task, 1, "a", keepAliveSeconds=60),
    )
    await eventually(lambda: task.instance)
    await agent.vanish()
    told_at = time.monotonic()
    await agent.send(request.reply, agent.chunk(request.task, 3, "c", keepAliveSeconds=60))

    with pytest.raises(AgentLost) as lost:
        await asyncio.wait_for(task.result(), 10)
    # The server says that nobody listens, so no promise is waited for.
    assert time.monotonic() - told_at < 10
    assert (lost.value.side_effects, lost.value.retryable) == ("possible", True)


async def test_nobody_listening_is_unavailable_and_nothing_happened(bus: Bus) -> None:
    task = await bus.submit("work", "hello", agent="nobody")

    with pytest.raises(AgentUnavailable) as unavailable:
        await asyncio.wait_for(task.result(), 4)
    assert unavailable.value.side_effects == "none"


async def test_a_deadline_is_reported_within_five_seconds_of_it_and_told_to_the_agent(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello", deadline=0.1)
    request = await agent.expect("task.submit")
    await agent.send(request.reply, agent.status(request.task, 1, keepAliveSeconds=60))

    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(task.result(), 5.1)
    assert (await agent.expect("task.cancel")).task == request.task


async def three_open_tasks(bus: Bus, agent: RawAgent) -> dict[str, str]:
    """Reply subjects of three tasks that have begun, by task."""
    replies = {}
    tasks = [await bus.submit("work", "hello") for _ in range(3)]
    for number, _ in enumerate(tasks, 1):
        request = await agent.expect("task.submit")
        replies[request.task] = request.reply
        for sequence in range(1, number + 1):
            status = agent.status(request.task, sequence, keepAliveSeconds=600)
            await agent.send(request.reply, status)
    await eventually(lambda: all(task.instance for task in tasks))
    await agent.transport.flush()
    await bus.transport.flush()
    return replies


async def expect_three_repairs(agent: RawAgent, tasks: dict[str, str]) -> None:
    repairs = [await agent.expect("task.subscribe", 20) for _ in tasks]
    assert {repair.task for repair in repairs} == set(tasks)
    assert sorted(repair.data["after"] for repair in repairs) == [1, 2, 3]


async def test_after_a_partition_every_open_task_is_subscribed_to_again() -> None:
    broker = MemoryBroker()
    agent = await RawAgent(broker.connect()).start()
    transport = broker.connect()
    async with Bus(transport) as bus:
        tasks = await three_open_tasks(bus, agent)
        broker.partition(transport)
        broker.heal(transport)
        await expect_three_repairs(agent, tasks)
    assert agent.invalid == []


async def test_an_agent_that_comes_back_later_than_the_caller_is_asked_then() -> None:
    broker = MemoryBroker()
    there = broker.connect()
    agent = await RawAgent(there).start()
    transport = broker.connect()
    async with Bus(transport) as bus:
        tasks = await three_open_tasks(bus, agent)
        broker.partition(there, transport)
        broker.heal(transport)
        await transport.flush()
        broker.heal(there)
        await expect_three_repairs(agent, tasks)


async def test_after_a_restart_of_the_server_every_open_task_is_subscribed_to_again(
    tmp_path: Path,
) -> None:
    async with NatsServer(tmp_path) as server:
        raw = await NatsTransport.connect(NatsOptions.from_url(server.url))
        agent = await RawAgent(raw).start()
        async with connect(server.url) as bus:
            tasks = await three_open_tasks(bus, agent)
            await server.restart_async()
            await expect_three_repairs(agent, tasks)
        assert agent.invalid == []
        await raw.close()


CALLERS = """
authorization { users: [
  { user: agent, password: p },
  { user: desk, password: p, permissions: {
      publish: ["dragoman.v1.rpc.*", "dragoman.v1.skill.*", "dragoman.v1.inst.*.*"],
      subscribe: ["_INBOX.desk.>"] } }
] }
"""


async def test_a_caller_uses_the_inbox_prefix_that_its_permissions_allow(tmp_path: Path) -> None:
    async with NatsServer(tmp_path, extra_configuration=CALLERS) as server:
        login = {"servers": (server.url,), "password": "p"}
        raw = await NatsTransport.connect(NatsOptions(user="agent", **login))
        desk = await NatsTransport.connect(
            NatsOptions(user="desk", inbox_prefix="_INBOX.desk", **login)
        )
        agent = await RawAgent(raw).start()
        async with Bus(desk, owns_transport=True) as bus:
            task = await bus.submit("work", "hello")
            request = await agent.expect("task.submit")
            assert request.reply.startswith("_INBOX.desk.")
            await agent.send(request.reply, agent.status(request.task, 1))
            await eventually(lambda: task.instance)
            getting = asyncio.ensure_future(task.get())
            asked = await agent.expect("task.get")
            assert asked.reply.startswith("_INBOX.desk.")
            await agent.send(asked.reply, agent.snapshot(request.task, 1))
            await asyncio.wait_for(getting, 10)
            await agent.send(request.reply, agent.final(request.task, 2, "allowed"))
            assert (await asyncio.wait_for(task.result(), 10)).text == "allowed"
            assert desk.statistics.server_errors == 0
        await raw.close()
