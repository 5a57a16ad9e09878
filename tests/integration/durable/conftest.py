"""A bus with a supervisor, agents on it, and a caller, each with a connection of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from dragoman_agents import Agent, serving
from dragoman_bus.client import Bus
from dragoman_bus.durable import DurableSettings
from dragoman_bus.server import NatsServer
from dragoman_bus.supervisor import Supervisor, supervising
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from tests.integration.durable.hands import Hands

Connect = Callable[[], AbstractAsyncContextManager[NatsTransport]]

SETTINGS = DurableSettings(
    ack_wait=2.0,
    in_memory=True,
    log_bytes=2**26,
    queue_bytes=2**24,
    artifact_bytes=2**26,
)


@pytest.fixture
def connect(nats_server: NatsServer) -> Connect:
    """Opens connections to the server."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[NatsTransport]:
        transport = await NatsTransport.connect(NatsOptions.from_url(nats_server.url))
        try:
            yield transport
        finally:
            await transport.close()

    return opened


class House:
    """Agents, a supervisor and callers that are closed together."""

    def __init__(self, connect: Connect, stack: AsyncExitStack) -> None:
        self.connect = connect
        self.stack = stack

    async def transport(self) -> NatsTransport:
        """Another connection."""
        return await self.stack.enter_async_context(self.connect())

    async def supervisor(
        self, settings: DurableSettings = SETTINGS, **options: float
    ) -> Supervisor:
        """Another supervisor."""
        transport = await self.transport()
        return await self.stack.enter_async_context(supervising(transport, settings, **options))

    async def serve(self, agent: Agent) -> None:
        """An instance of an agent, ready for durable tasks."""
        transport = await self.transport()
        await self.stack.enter_async_context(
            serving(agent, transport, ack_wait=2.0, grace_seconds=5.0)
        )

    async def hands(self, name: str = "hands-1") -> Hands:
        """A worker moved by hand."""
        return Hands(await self.transport(), name)

    async def bus(self) -> Bus:
        """Another caller."""
        return await self.stack.enter_async_context(Bus(await self.transport()))


@pytest.fixture
async def house(connect: Connect) -> AsyncIterator[House]:
    """An empty house on the module's server."""
    async with AsyncExitStack() as stack:
        yield House(connect, stack)
