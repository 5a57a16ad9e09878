"""When a puller asks its queue, and when it asks for nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
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
        self.queries: list[bytes] = []
        self.hear: Any = None
        self.came_back: Any = None

    def new_inbox(self) -> str:
        """An inbox."""
        return "_INBOX.x"

    def add_reconnect_listener(self, listener: Any) -> Any:
        """Keep it."""
        self.came_back = listener
        return lambda: None

    async def subscribe(self, subject: str, handler: Any) -> Listening:
        """Keep the handler."""
        self.hear = handler
        return Listening()

    async def publish(self, subject: str, data: bytes, *, reply: str) -> None:
        """Note the request."""
        self.asked.append(reply)
        self.queries.append(data)


def puller_on(wire: Wire) -> pulling.JetStreamPuller:
    """A puller that is not open yet."""
    connection: Any = wire
    return pulling.JetStreamPuller(connection, "WORK", "queue", lambda pulled: None, 5.0)


async def refused() -> tuple[Wire, pulling.JetStreamPuller]:
    """A puller that has asked once, and heard that there is no queue."""
    wire = Wire()
    puller = puller_on(wire)
    await puller.open()
    puller.want(1)
    await asyncio.sleep(0)
    wire.hear(Delivery(wire.asked[0], b"", "", {"Status": "503"}))
    return wire, puller


async def test_a_queue_that_is_not_there_is_left_alone_for_a_pause_whatever_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulling, "_FIRST_PAUSE_SECONDS", 3600.0)
    wire, puller = await refused()
    for number in (2, 1, 2):
        puller.want(number)
        await asyncio.sleep(0)
    assert len(wire.asked) == 1
    await puller.close()


async def test_a_reconnect_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "_FIRST_PAUSE_SECONDS", 3600.0)
    wire, puller = await refused()
    wire.came_back()
    await asyncio.sleep(0)
    assert len(wire.asked) == 2
    await puller.close()


async def test_a_pause_that_ends_after_the_end_asks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulling, "_FIRST_PAUSE_SECONDS", 0.0)
    wire, puller = await refused()
    await puller.close()
    before = asyncio.all_tasks()

    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, passed.set)
    await passed.wait()

    assert len(wire.asked) == 1
    assert asyncio.all_tasks() == before
    assert not puller._tasks


async def test_messages_are_asked_for_again_when_less_than_half_is_still_to_come() -> None:
    wire = Wire()
    puller = puller_on(wire)
    await puller.open()
    puller.want(8)
    await asyncio.sleep(0)
    sizes = []
    for number in range(1, 6):
        wire.hear(Delivery("queue", b"", f"$JS.ACK.WORK.queue.1.{number}.1.0.0"))
        puller.want(8)
        await asyncio.sleep(0)
        sizes.append(len(wire.asked))
    assert sizes == [1, 1, 1, 1, 2]
    assert msgspec.json.decode(wire.queries[-1])["batch"] == 5
    await puller.close()


async def test_a_single_message_is_asked_for_again_at_once() -> None:
    wire = Wire()
    puller = puller_on(wire)
    await puller.open()
    puller.want(1)
    await asyncio.sleep(0)
    wire.hear(Delivery("queue", b"", "$JS.ACK.WORK.queue.1.1.1.0.0"))
    puller.want(1)
    await asyncio.sleep(0)
    assert len(wire.asked) == 2
    await puller.close()
