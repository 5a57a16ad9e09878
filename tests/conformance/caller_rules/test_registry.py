"""A reader of the registry on a real server: expiry, goodbye, draining, and what was missed."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from dragoman_agents import serving
from dragoman_bus import Bus
from dragoman_bus.protocol.errors import AgentUnavailable
from dragoman_bus.registry import DirectoryChange, prune
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.memory import MemoryBroker
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.port import Delivery, Entry
from tests.conformance.agent_rules.workshop import Workshop
from tests.conformance.caller_rules.documents import Documents
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

REGISTRY = "$KV.dragoman_registry."


def lease(instance: str, card: str, **members: Any) -> bytes:
    """A lease as a document."""
    data = {
        "agent": "workshop",
        "instance": instance,
        "card": card,
        "state": "ready",
        "leaseSeconds": 60,
        "slots": 1,
        "running": 0,
        "queued": 0,
        "startedAt": "2026-01-01T00:00:00Z",
        **members,
    }
    return json.dumps(Documents("workshop", instance).envelope("agent.lease", data)).encode()


class Hand:
    """Writes leases by hand, for an agent whose card is in the registry."""

    def __init__(self, transport: NatsTransport, announcement: dict[str, Any], digest: str) -> None:
        self.transport = transport
        self.announcement = announcement
        self.digest = digest

    async def lease(self, instance: str, *, seconds: float = 60, state: str = "ready") -> None:
        """Write a lease."""
        body = lease(instance, self.digest, leaseSeconds=seconds, state=state)
        await self.put(f"inst.workshop.{instance}", body, seconds)

    async def put(self, key: str, body: bytes, seconds: float = 0, **more: str) -> None:
        """Write a key, and wait until the server has it."""
        headers = more | ({"Nats-TTL": str(max(1, round(seconds)))} if seconds else {})
        subject = REGISTRY + key
        answer = await self.transport.request(subject, body, timeout=5, headers=headers)
        assert "error" not in json.loads(answer.data), answer.data


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats") as running:
        yield running


async def connection(stack: AsyncExitStack, url: str) -> NatsTransport:
    transport = await NatsTransport.connect(NatsOptions.from_url(url))
    stack.push_async_callback(transport.close)
    return transport


@pytest.fixture
async def hand(server: NatsServer, stack: AsyncExitStack) -> Hand:
    """The agent ``workshop`` has been here: its card stays, its lease is gone."""
    writes: list[Delivery] = []
    transport = await connection(stack, server.url)
    await transport.subscribe(f"{REGISTRY}card.>", writes.append)
    async with serving(Workshop().agent, await connection(stack, server.url)):
        await eventually(lambda: writes)
    digest = f"sha256:{writes[0].subject.rpartition('.')[2]}"
    return Hand(transport, json.loads(writes[0].data), digest)


def instances(bus: Bus) -> list[str]:
    assert bus._directory is not None
    return [lease.instance for view in bus._directory.agents() for lease in view.instances]


async def test_a_reader_sees_who_comes_is_lost_and_says_goodbye_without_asking(
    server: NatsServer, stack: AsyncExitStack, hand: Hand
) -> None:
    asked: list[Delivery] = []
    transport = await connection(stack, server.url)
    async with Bus(transport) as bus:
        directory = await bus.directory()
        changes: list[DirectoryChange] = []
        directory.add_listener(changes.append)
        await hand.transport.subscribe("$JS.API.>", asked.append)
        await hand.transport.flush()
        await hand.lease("fleeting", seconds=1)
        await hand.lease("lasting")
        await eventually(lambda: set(instances(bus)) == {"fleeting", "lasting"})
        began = time.monotonic()
        read = len(asked)

        await eventually(lambda: instances(bus) == ["lasting"])
        assert time.monotonic() - began > 0.9
        await hand.put("inst.workshop.lasting", b"", **{"KV-Operation": "DEL"})
        await eventually(lambda: instances(bus) == [])

        told = [(change.kind, change.lease.instance) for change in changes]
        assert told[-2:] == [("lost", "fleeting"), ("left", "lasting")]
        # The card was read once; nothing was asked to find out who is gone.
        assert len(asked) == read


async def test_a_reader_that_was_cut_off_reads_again_what_it_missed() -> None:
    broker = MemoryBroker()
    writer, cut_off = broker.connect(), broker.connect()
    bucket = await writer.key_value("dragoman_registry")
    async with serving(Workshop().agent, broker.connect()) as served, Bus(cut_off) as bus:
        await bus.directory()
        card = served.lease().card
        await bucket.put("inst.workshop.leaves", lease("leaves", card, leaseSeconds=1))
        await eventually(lambda: set(instances(bus)) == {served.id, "leaves"})
        broker.partition(cut_off)
        await bucket.put("inst.workshop.comes", lease("comes", card))
        await bucket.delete("inst.workshop.leaves")
        broker.heal(cut_off)

        # Its goodbye was missed, so it is gone when its lease is over.
        await eventually(lambda: set(instances(bus)) == {served.id, "comes"})


async def test_a_reader_is_right_again_after_a_restart_of_the_server(
    server: NatsServer, stack: AsyncExitStack, hand: Hand
) -> None:
    transport = await connection(stack, server.url)
    served = await stack.enter_async_context(
        serving(Workshop().agent, await connection(stack, server.url), lease_seconds=2)
    )
    async with Bus(transport) as bus:
        await bus.directory()
        await hand.lease("short", seconds=2)
        await eventually(lambda: set(instances(bus)) == {served.id, "short"})
        server.kill()
        await server.start_async()

        await eventually(lambda: instances(bus) == [served.id], 30)
        await hand.lease("new")
        await eventually(lambda: set(instances(bus)) == {served.id, "new"})
        assert (await bus.ask("echo", "still here")).text == "still here"


async def test_an_instance_that_drains_is_not_chosen(
    server: NatsServer, stack: AsyncExitStack, hand: Hand
) -> None:
    async with Bus(await connection(stack, server.url)) as bus:
        await bus.directory()
        await hand.lease("leaving", state="draining")
        await eventually(lambda: instances(bus) == ["leaving"])

        (view,) = await bus.discover(skill="echo")
        assert not view.is_ready
        with pytest.raises(AgentUnavailable):
            async with bus.scatter("echo", "x", agents=["workshop"]):
                raise AssertionError
        await hand.lease("leaving", state="ready")
        await eventually(lambda: view_is_ready(bus))


def view_is_ready(bus: Bus) -> bool:
    assert bus._directory is not None
    return all(view.is_ready for view in bus._directory.agents())


async def test_what_does_not_belong_under_its_key_is_ignored_and_counted(
    server: NatsServer, stack: AsyncExitStack, hand: Hand
) -> None:
    async with Bus(await connection(stack, server.url)) as bus:
        directory = await bus.directory()
        before = directory.invalid_entries
        await hand.put("inst.workshop.junk", b"junk")
        forged = dict(hand.announcement, data=hand.announcement["data"] | {"agent": "other"})
        await hand.put(f"card.workshop.{'0' * 64}", json.dumps(forged).encode())
        await hand.lease("honest")
        await eventually(lambda: instances(bus) == ["honest"])
        assert directory.invalid_entries == before + 2


def of(document: bytes, **attributes: str) -> bytes:
    """A message with other attributes."""
    return json.dumps(json.loads(document) | attributes).encode()


async def test_junk_is_deleted_and_agents_and_other_versions_are_not(
    hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    junk = {
        "inst.workshop.junk": b"junk",
        "inst.workshop.other": lease("another", hand.digest),
        f"card.workshop.{'0' * 64}": json.dumps(hand.announcement).encode(),
    }
    kept = {
        "inst.workshop.honest": lease("honest", hand.digest),
        "inst.workshop.later": of(lease("later", hand.digest), protocolversion="2.0"),
        "inst.workshop.kind": of(lease("kind", hand.digest), type="dev.dragoman.agent.mood"),
        "foreign": b"junk",
    }
    for key, value in (junk | kept).items():
        await hand.put(key, value)
    bucket = await hand.transport.key_value("dragoman_registry")

    deleted = await prune(bucket)
    left = {entry.key for entry in await bucket.entries()}

    assert deleted.keys() == junk.keys()
    assert left == kept.keys() | {f"card.workshop.{hand.digest.removeprefix('sha256:')}"}
    assert await prune(bucket) == {}
    async with Bus(hand.transport) as bus:
        await bus.directory()
        assert instances(bus) == ["honest"]
    warned = [
        record.getMessage() for record in caplog.records if record.name == "dragoman.registry"
    ]
    assert len(warned) == 2
    assert not any("--prune" in text for text in warned)


async def test_what_was_written_anew_is_not_deleted_with_the_junk_before_it(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = await hand.transport.key_value("dragoman_registry")
    await hand.put("inst.workshop.honest", b"junk")
    read = bucket.entries

    async def read_before_the_agent_writes(pattern: str = ">") -> list[Entry]:
        entries = await read(pattern)
        await hand.lease("honest")
        return entries

    monkeypatch.setattr(bucket, "entries", read_before_the_agent_writes)

    assert await prune(bucket) == {}
    assert await bucket.get("inst.workshop.honest") is not None
