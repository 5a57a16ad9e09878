"""A bus under test and a raw agent on the other side, in memory and on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dragoman_bus import Bus
from tests.conformance.caller_rules.raw_agent import RawAgent
from tests.conftest import MakeTransport


@pytest.fixture
async def agent(make_transport: MakeTransport) -> AsyncIterator[RawAgent]:
    """A raw agent; whatever a caller sent it must have been valid."""
    raw = await RawAgent(await make_transport()).start()
    yield raw
    assert raw.invalid == []
    await raw.vanish()


@pytest.fixture
async def bus(make_transport: MakeTransport) -> AsyncIterator[Bus]:
    """The caller under test."""
    async with Bus(await make_transport()) as caller:
        yield caller
