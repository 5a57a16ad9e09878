"""What only the broker in memory offers: its own clock, partitions, bounded queues, a seed."""

from __future__ import annotations

import asyncio

import pytest

from dragoman_bus.protocol.errors import (
    BusUnavailable,
    NoResponders,
    RequestTimeout,
    RevisionConflict,
)
from dragoman_bus.transports.memory import MemoryBroker
from dragoman_bus.transports.port import Change

pytestmark = pytest.mark.anyio


async def test_a_handler_runs_later_and_never_inside_publish() -> None:
    transport = MemoryBroker().connect()
    received: list[bytes] = []
    await transport.subscribe("a", lambda delivery: received.append(delivery.data))
    await transport.publish("a", b"1")
    assert received == []
    await transport.flush()
    assert received == [b"1"]


async def test_time_to_live_follows_the_clock_of_the_broker_in_whole_seconds() -> None:
    now = 100.0
    bucket = await MemoryBroker(clock=lambda: now).connect().key_value("b")
    revision = await bucket.put("key", b"1", ttl=1.2)
    now = 101.9
    assert await bucket.get("key") is not None
    now = 102.0
    assert await bucket.get("key") is None
    assert await bucket.entries() == []
    assert await bucket.put("key", b"2", expected_revision=0) > revision


async def test_a_watcher_sees_refused_writes_and_no_expiry_as_on_a_server() -> None:
    now = 0.0
    transport = MemoryBroker(clock=lambda: now).connect()
    bucket = await transport.key_value("b")
    changes: list[Change] = []
    await bucket.watch(">", changes.append)
    await bucket.put("key", b"1", ttl=1)
    with pytest.raises(RevisionConflict):
        await bucket.put("key", b"refused", expected_revision=0)
    now = 5.0
    assert await bucket.get("key") is None
    await transport.flush()
    assert changes == [Change("key", b"1"), Change("key", b"refused")]


async def test_a_partition_buffers_publishes_loses_deliveries_and_heals() -> None:
    broker = MemoryBroker()
    near, far = broker.connect(), broker.connect()
    received: list[bytes] = []
    calls: list[str] = []
    await far.subscribe("a", lambda delivery: received.append(delivery.data))
    far.add_reconnect_listener(lambda: calls.append("far"))
    near.add_reconnect_listener(lambda: calls.append("near"))
    broker.partition(far)
    assert near.connected
    assert not far.connected
    await near.publish("a", b"lost")
    with pytest.raises(NoResponders):
        await near.request("a", b"", timeout=5)
    await far.publish("a", b"buffered")
    with pytest.raises(RequestTimeout, match="not sent"):
        await far.request("a", b"too late", timeout=0.01)
    broker.heal()
    await far.flush()
    assert received == [b"buffered"]
    assert calls == ["far"]
    assert (far.statistics.disconnects, far.statistics.reconnects) == (1, 1)


async def test_what_was_under_way_at_a_partition_is_lost() -> None:
    broker = MemoryBroker()
    transport = broker.connect()
    received: list[bytes] = []
    await transport.subscribe("a", lambda delivery: received.append(delivery.data))
    await transport.publish("a", b"1")
    broker.partition()
    broker.heal()
    await transport.flush()
    assert received == []


async def test_the_buffer_of_a_partitioned_transport_is_bounded() -> None:
    broker = MemoryBroker(pending_bytes=10)
    transport = broker.connect()
    broker.partition()
    await transport.publish("a", bytes(10))
    with pytest.raises(BusUnavailable, match="full"):
        await transport.publish("a", b"1")


async def test_a_full_queue_drops_and_counts() -> None:
    transport = MemoryBroker(pending_messages=3).connect()
    received: list[bytes] = []
    await transport.subscribe("a", lambda delivery: received.append(delivery.data))
    for number in range(5):
        await transport.publish("a", str(number).encode())
    await transport.flush()
    assert received == [b"0", b"1", b"2"]
    assert transport.statistics.dropped_deliveries == 2


async def test_the_choice_within_a_queue_group_follows_the_seed() -> None:
    async def choices(seed: int) -> list[int]:
        transport = MemoryBroker(seed=seed).connect()
        chosen: list[int] = []
        await transport.subscribe("a", lambda _: chosen.append(1), queue="q")
        await transport.subscribe("a", lambda _: chosen.append(2), queue="q")
        for _ in range(30):
            await transport.publish("a", b"")
            await transport.flush()
        return chosen

    assert await choices(1) == await choices(1)
    assert await choices(1) != await choices(2)


async def test_closing_one_transport_leaves_the_others_alone() -> None:
    broker = MemoryBroker()
    leaving, staying = broker.connect(), broker.connect()
    received: list[bytes] = []
    await leaving.subscribe("a", lambda _: received.append(b"leaving"))
    await staying.subscribe("a", lambda _: received.append(b"staying"))
    await leaving.close()
    await staying.publish("a", b"")
    await staying.flush()
    assert received == [b"staying"]


async def test_waiting_for_a_partitioned_broker_ends_when_the_transport_closes() -> None:
    broker = MemoryBroker()
    transport = broker.connect()
    broker.partition()
    waiting = asyncio.create_task(transport.flush())
    await asyncio.sleep(0)
    await transport.close()
    with pytest.raises(BusUnavailable):
        await waiting
