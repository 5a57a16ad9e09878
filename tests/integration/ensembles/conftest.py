"""A stage on both transports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from dragoman_bus.transports.port import Transport
from tests.integration.durable.conftest import connect, house
from tests.support.ensemble_stage import Stage, stage

__all__ = ["connect", "house", "play"]


@pytest.fixture
async def play(make_transport: Callable[[], Awaitable[Transport]]) -> AsyncIterator[Stage]:
    """A stage with nobody on it yet."""
    async with stage(make_transport) as made:
        yield made
