"""Fixtures for all tests: the event loop, a real NATS server, and transports of both kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from dragoman_bus.server import NatsServer
from dragoman_bus.transports.memory import MemoryBroker
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.port import Transport

MAX_PAYLOAD = 256 * 1024

MakeTransport = Callable[[], Awaitable[Transport]]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Dragoman runs on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A real server on a free port with JetStream, shared by the tests of one module."""
    directory = tmp_path_factory.mktemp("nats")
    with NatsServer(directory, max_payload=MAX_PAYLOAD) as server:
        yield server


@pytest.fixture(params=["memory", "nats"])
async def make_transport(request: pytest.FixtureRequest) -> AsyncIterator[MakeTransport]:
    """A factory of clients on one bus, once in memory and once on a real server."""
    transports: list[Transport] = []
    broker = MemoryBroker(max_payload=MAX_PAYLOAD)

    async def make() -> Transport:
        if request.param == "memory":
            transports.append(broker.connect())
        else:
            server: NatsServer = request.getfixturevalue("nats_server")
            transports.append(await NatsTransport.connect(NatsOptions.from_url(server.url)))
        return transports[-1]

    yield make
    for transport in transports:
        await transport.close()


@pytest.fixture
async def transport(make_transport: MakeTransport) -> Transport:
    """One client of ``make_transport``."""
    return await make_transport()
