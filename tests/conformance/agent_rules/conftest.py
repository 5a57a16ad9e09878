"""A real agent under test and a raw caller on the other side, in memory and on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from dragoman_agents import Agent, serving
from dragoman_bus.service import Instance
from tests.conformance.agent_rules.raw_caller import RawCaller
from tests.conftest import MakeTransport

Serve = Callable[..., Awaitable[Instance]]


@pytest.fixture
async def serve(make_transport: MakeTransport) -> AsyncIterator[Serve]:
    """Serves agents until the test ends."""
    async with AsyncExitStack() as stack:

        async def served(agent: Agent, **options: float) -> Instance:
            entered = serving(agent, await make_transport(), **{"grace_seconds": 0.2, **options})
            return await stack.enter_async_context(entered)

        yield served


@pytest.fixture
async def caller(make_transport: MakeTransport) -> AsyncIterator[RawCaller]:
    """A raw caller; whatever an agent sent it must have been valid."""
    raw = await RawCaller(await make_transport()).start()
    yield raw
    assert raw.invalid == []
