"""When the client writes what waits to be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from nats.aio.client import Client

from dragoman_bus.transports.nats.client import BusClient
from dragoman_bus.transports.nats.sockets import DispatchingTransport

pytestmark = pytest.mark.anyio


class Wire(DispatchingTransport):
    """A server that reads as quickly as is written."""

    congested = False

    def __init__(self) -> None:
        super().__init__(lambda sid: None)
        self.written: list[list[list[bytes]]] = []

    def writelines(self, payload: Iterable[bytes]) -> None:
        """Note what one write has: the words of each command."""
        self.written.append([command.split() for command in payload])


def connected() -> tuple[BusClient, Wire]:
    """A client that has logged in."""
    client, wire = BusClient(), Wire()
    client._transport, client._status = wire, Client.CONNECTED
    client._max_payload = client._max_pending_size = 1024
    return client, wire


async def test_a_subscription_goes_out_together_with_what_is_published_after_it() -> None:
    client, wire = connected()
    subscription = await client.subscribe("a", future=asyncio.Future())
    assert client.send("b", b"x", "", None)
    await subscription.unsubscribe()
    await asyncio.sleep(0)
    assert wire.written == [[[b"SUB", b"a", b"1"], [b"PUB", b"b", b"1", b"x"], [b"UNSUB", b"1"]]]


async def test_what_waits_is_written_also_when_a_drain_begins_within_the_same_turn() -> None:
    client, wire = connected()
    subscription = await client.subscribe("a", future=asyncio.Future())
    await asyncio.sleep(0)
    await subscription.unsubscribe()
    client._status = Client.DRAINING_SUBS
    await asyncio.sleep(0)
    assert wire.written[1:] == [[[b"UNSUB", b"1"]]]
