"""A puller that was closed asks for nothing more, whatever was still to come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dragoman_bus.transports.nats import pulling
from dragoman_bus.transports.port import Delivery

pytestmark = pytest.mark.anyio


class Listening:
    """A subscription that ends at once."""

    async def drain(self) -> None:
        """Nothing is under way."""


class Wire:
    """What a puller needs of a connection."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hear: Any = None

    def new_inbox(self) -> str:
        """An inbox."""
        return "_INBOX.x"

    def add_reconnect_listener(self, listener: Any) -> Any:
        """Never called."""
        return lambda: None

    async def subscribe(self, subject: str, handler: Any) -> Listening:
        """Keep the handler."""
        self.hear = handler
        return Listening()

    async def publish(self, subject: str, data: bytes, *, reply: str) -> None:
        """Note the request."""
        self.asked.append(reply)


async def test_a_pause_that_ends_after_the_end_asks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulling, "_FIRST_PAUSE_SECONDS", 0.0)
    wire = Wire()
    connection: Any = wire
    puller = pulling.JetStreamPuller(connection, "WORK", "queue", lambda pulled: None, 5.0)
    await puller.open()
    puller.want(1)
    await asyncio.sleep(0)
    wire.hear(Delivery(wire.asked[0], b"", "", {"Status": "503"}))
    await puller.close()
    before = asyncio.all_tasks()

    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, passed.set)
    await passed.wait()

    assert len(wire.asked) == 1
    assert asyncio.all_tasks() == before
    assert not puller._tasks
