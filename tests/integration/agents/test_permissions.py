"""An agent with the permissions made from its card does all its work, and nothing of another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dragoman_agents import Agent, Context, serving
from dragoman_bus import Bus
from dragoman_bus.artifacts import artifact_part
from dragoman_bus.permissions import agent_permissions, inbox_prefix
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import BusUnavailable, RemoteError
from dragoman_bus.server import NatsServer
from dragoman_bus.supervisor import supervising
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from tests.integration.durable.conftest import SETTINGS
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def worker() -> Agent:
    agent = Agent("worker")

    @agent.skill
    async def echo(text: str, *, ctx: Context) -> str:
        for piece in text:
            await ctx.emit(piece)
        return text

    @agent.skill
    async def hold(text: str) -> str:
        await asyncio.Event().wait()
        return text

    @agent.skill
    async def draw(text: str, *, ctx: Context) -> str:
        await ctx.emit(artifact_part(await ctx.artifacts.put(text.encode() * 100_000)))
        return text

    @agent.skill
    async def stumble(text: str, *, ctx: Context) -> str:
        await ctx.step("once", once)
        if ctx.attempt == 1:
            raise RemoteError("again", code="MODEL_OVERLOADED", retry_after=0.0)
        raise ValueError(text)

    @agent.skill
    async def greet(text: str, *, ctx: Context) -> str:
        return str(await ctx.ask(text))

    @agent.skill
    async def pass_on(text: str, *, ctx: Context) -> str:
        return str((await ctx.delegate("shout", text=text)).value)

    return agent


def helper() -> Agent:
    agent = Agent("helper")

    @agent.skill
    async def shout(text: str) -> str:
        return text.upper()

    return agent


async def once() -> int:
    return 1


CONFIGURATION = """
accounts {
  A {
    jetstream: enabled
    users: [ { user: admin, password: p }, WORKER ]
  }
}
"""


class Guarded:
    """A server that knows who may do what."""

    def __init__(self, server: NatsServer, stack: AsyncExitStack) -> None:
        self.server = server
        self.stack = stack

    async def connect(self, user: str, **more: str) -> NatsTransport:
        options = replace(NatsOptions.from_url(self.server.url), user=user, password="p", **more)
        transport = await NatsTransport.connect(options)
        self.stack.push_async_callback(transport.close)
        return transport


@pytest.fixture(params=[False, True], ids=["serves", "delegates"])
async def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Guarded]:
    permissions = agent_permissions(worker().announcement(), delegates=request.param)
    entry = permissions.as_configuration("worker").replace("CHANGE-ME", "p")
    configuration = CONFIGURATION.replace("WORKER", entry)
    server = NatsServer(tmp_path / "nats", extra_configuration=configuration)
    async with server, AsyncExitStack() as stack:
        made = Guarded(server, stack)
        await stack.enter_async_context(supervising(await made.connect("admin"), SETTINGS))
        yield made


async def test_an_agent_needs_nothing_beyond_its_permissions(
    guarded: Guarded, request: pytest.FixtureRequest
) -> None:
    transport = await guarded.connect("worker", inbox_prefix=inbox_prefix("worker"))
    served = serving(worker(), transport, ack_wait=2.0, grace_seconds=0.2)
    await guarded.stack.enter_async_context(served)
    others = serving(helper(), await guarded.connect("admin"), ack_wait=2.0, grace_seconds=0.2)
    await guarded.stack.enter_async_context(others)
    bus = await guarded.stack.enter_async_context(Bus(await guarded.connect("admin")))

    for delivery in ("direct", "durable"):
        options = {"delivery": delivery, "deadline": 20}
        assert (await bus.ask("echo", "hello", **options)).text == "hello"
        await bus.ask("draw", "line", **options)
        with pytest.raises(RemoteError):
            await bus.ask("stumble", "x", **options)
        held = await bus.submit("hold", "x", **options)  # type: ignore[call-overload]
        if delivery == "direct":
            await eventually(lambda held=held: held.instance)  # type: ignore[misc]
        assert await asyncio.wait_for(held.cancel("enough"), 20) is TaskState.CANCELED
        if "delegates" in request.node.name:
            assert (await bus.ask("pass_on", "below", **options)).text == "BELOW"
    assert [view.name for view in await bus.discover()] == ["helper", "worker"]
    answer = await bus.transport.request("$SRV.PING.worker", b"", timeout=5)
    assert b"worker" in answer.data
    assert transport.statistics.server_errors == 0


async def test_an_agent_can_neither_be_another_nor_hear_what_others_are_told(
    guarded: Guarded,
) -> None:
    transport = await guarded.connect("worker", inbox_prefix=inbox_prefix("worker"))

    for subject, queue in (
        ("dragoman.v1.rpc.other", "other"),
        ("dragoman.v1.skill.translate", "skill"),
        # Without its queue group it would hear every task of a skill, also those of others.
        ("dragoman.v1.skill.echo", ""),
        ("_INBOX.>", ""),
        ("$JS.API.>", ""),
        ("dragoman.v1.>", ""),
    ):
        with pytest.raises(BusUnavailable) as refused:
            await transport.subscribe(subject, lambda _: None, queue=queue)
        assert refused.value.code == "PERMISSION_DENIED"
    for subject in (
        "$KV.dragoman_registry.inst.other.i-1",
        "$KV.dragoman_registry.card.other.x",
        "$JS.API.STREAM.DELETE.DRAGOMAN_LOG",
        "$JS.API.CONSUMER.CREATE.DRAGOMAN_LOG",
        "$JS.API.CONSUMER.MSG.NEXT.DRAGOMAN_QUEUE.agent-other",
        "dragoman.v1.inst.some-one.drain",
        "dragoman.v1.dlq.translate.t",
    ):
        with pytest.raises(BusUnavailable) as unpublished:
            await transport.request(subject, b"", timeout=5)
        assert unpublished.value.code == "PERMISSION_DENIED"
