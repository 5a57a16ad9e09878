"""A server of its own for each test: queues and logs of one do not reach into another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dragoman_bus.server import NatsServer
from tests.conformance.durable_rules.house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """An empty house with streams and without a supervisor."""
    async with NatsServer(tmp_path / "nats") as server, AsyncExitStack() as stack:
        yield await House(server, stack).start()
