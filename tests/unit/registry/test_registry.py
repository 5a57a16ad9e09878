"""Leases, cards and the live copy a reader keeps of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
)
from dragoman_bus.protocol.contracts import make_contract
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.payloads import AnnounceData, InstanceState, LeaseData
from dragoman_bus.protocol.subjects import REGISTRY_BUCKET, lease_key
from dragoman_bus.protocol.timestamps import format_timestamp
from dragoman_bus.registry import AgentView, Directory, DirectoryChange, LeaseKeeper
from dragoman_bus.registry.keeper import card_digest
from dragoman_bus.transports.memory import MemoryBroker
from dragoman_bus.transports.port import Transport

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object"}


def announcement(name: str, *skills: str, tags: tuple[str, ...] = ()) -> AnnounceData:
    card = AgentCard(
        name=name,
        description="for tests",
        supported_interfaces=[
            AgentInterface(url="nats:x", protocol_binding="urn:x", protocol_version="1.0")
        ],
        version="1.0.0",
        capabilities=AgentCapabilities(),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[
            AgentSkill(id=skill, name=skill, description=skill, tags=list(tags)) for skill in skills
        ],
    )
    contracts = [make_contract(skill, SCHEMA, {"type": "string"}) for skill in skills]
    return AnnounceData(agent=name, card=card, contracts=contracts, protocol_versions=["1.0"])


class Holder:
    """An instance that holds a lease, and nothing else."""

    def __init__(
        self, transport: Transport, announce: AnnounceData, lease_seconds: float = 10.0
    ) -> None:
        self.instance = f"{announce.agent}-{new_identifier()[-12:]}"
        self.state = InstanceState.READY
        self.announce = announce
        self.lease_seconds = lease_seconds
        sender = Sender(agent_source(announce.agent, self.instance), time.time, new_identifier)
        self.keeper = LeaseKeeper(transport, announce, self.lease, sender)

    @property
    def key(self) -> str:
        return lease_key(self.announce.agent, self.instance)

    def lease(self) -> LeaseData:
        return LeaseData(
            agent=self.announce.agent,
            instance=self.instance,
            card=card_digest(self.announce),
            state=self.state,
            lease_seconds=self.lease_seconds,
            slots=4,
            running=0,
            queued=0,
            started_at=format_timestamp(0),
        )


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def directory(broker: MemoryBroker) -> AsyncIterator[Directory]:
    reader = Directory(broker.connect())
    await reader.start()
    yield reader
    await reader.stop()


async def until(directory: Directory, condition: object) -> list[AgentView]:
    return await asyncio.wait_for(directory.wait_for(condition), 5)  # type: ignore[arg-type]


async def test_an_instance_appears_and_says_goodbye_at_once(
    broker: MemoryBroker, directory: Directory
) -> None:
    changes: list[DirectoryChange] = []
    directory.add_listener(changes.append)
    holder = Holder(broker.connect(), announcement("alpha", "translate"))
    await holder.keeper.start()

    views = await until(directory, lambda views: len(views) == 1)
    assert views[0].name == "alpha"
    assert views[0].skills == ["translate"]

    await holder.keeper.stop()
    await until(directory, lambda views: not views)
    assert [change.kind for change in changes] == ["joined", "left"]


async def test_a_late_reader_starts_from_the_snapshot(broker: MemoryBroker) -> None:
    for name in ("beta", "alpha"):
        await Holder(broker.connect(), announcement(name, "translate")).keeper.start()

    late = Directory(broker.connect())
    await late.start()

    assert [view.name for view in late.agents()] == ["alpha", "beta"]
    await late.stop()


async def test_an_instance_that_stops_renewing_is_lost(
    broker: MemoryBroker, directory: Directory
) -> None:
    changes: list[DirectoryChange] = []
    directory.add_listener(changes.append)
    holder = Holder(broker.connect(), announcement("alpha", "x"), lease_seconds=0.2)
    await holder.keeper._put_card(await broker.connect().key_value(REGISTRY_BUCKET))
    holder.keeper._bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    await holder.keeper.update()

    await until(directory, lambda views: len(views) == 1)
    await until(directory, lambda views: not views)
    assert [change.kind for change in changes] == ["joined", "lost"]


async def test_a_short_lease_does_not_wait_for_the_long_ones_before_it(
    broker: MemoryBroker, directory: Directory
) -> None:
    patient = Holder(broker.connect(), announcement("patient", "x"), lease_seconds=60)
    await patient.keeper.start()
    await until(directory, lambda views: len(views) == 1)
    brief = Holder(broker.connect(), announcement("brief", "x"), lease_seconds=0.2)
    await brief.keeper._put_card(await broker.connect().key_value(REGISTRY_BUCKET))
    brief.keeper._bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    await brief.keeper.update()
    await until(directory, lambda views: len(views) == 2)

    assert [view.name for view in await until(directory, lambda views: len(views) == 1)] == [
        "patient"
    ]
    await patient.keeper.stop()


async def test_a_renewed_lease_outlives_many_lease_times(
    broker: MemoryBroker, directory: Directory
) -> None:
    changes: list[DirectoryChange] = []
    directory.add_listener(changes.append)
    holder = Holder(broker.connect(), announcement("alpha", "x"), lease_seconds=0.3)
    await holder.keeper.start()
    await until(directory, lambda views: len(views) == 1)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(directory.wait_for(lambda views: not views), 1.5)
    await holder.keeper.stop()
    assert "lost" not in [change.kind for change in changes]


async def test_draining_is_seen_at_once(broker: MemoryBroker, directory: Directory) -> None:
    holder = Holder(broker.connect(), announcement("alpha", "x"))
    await holder.keeper.start()
    await until(directory, lambda views: views and views[0].is_ready)
    holder.state = InstanceState.DRAINING
    await holder.keeper.update()

    await until(directory, lambda views: views and not views[0].is_ready)
    await holder.keeper.stop()


async def test_a_lease_that_was_lost_is_announced_again(
    broker: MemoryBroker, directory: Directory
) -> None:
    holder = Holder(broker.connect(), announcement("alpha", "x"))
    await holder.keeper.start()
    bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    await bucket.delete(holder.key)
    await until(directory, lambda views: not views)

    await holder.keeper.update()

    await until(directory, lambda views: len(views) == 1)
    await holder.keeper.stop()


async def test_a_reader_of_one_agent_reads_and_hears_of_it_alone(broker: MemoryBroker) -> None:
    bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    early, late = [announcement("alpha", skill) for skill in ("x", "y")]
    for announce in (early, announcement("beta", "x")):
        await Holder(broker.connect(), announce).keeper.start()
    await bucket.put("inst.beta.junk", b"junk")
    reader = Directory(broker.connect(), agent="alpha")
    await reader.start()
    assert [view.name for view in reader.agents()] == ["alpha"]

    await bucket.put("inst.beta.junk", b"junk")
    for announce in (announcement("gamma", "x"), late):
        await Holder(broker.connect(), announce).keeper.start()
    views = await until(reader, lambda views: len(views) == 2)

    assert {view.name for view in views} == {"alpha"}
    assert reader.invalid_entries == 0
    await reader.stop()


async def test_agents_are_found_by_name_skill_tag_and_contract(
    broker: MemoryBroker, directory: Directory
) -> None:
    french = announcement("french", "translate", tags=("text", "fr"))
    for announce in (french, announcement("counter", "count", tags=("text",))):
        await Holder(broker.connect(), announce).keeper.start()
    await until(directory, lambda views: len(views) == 2)
    digest = french.contracts[0].digest

    def names(**criteria: object) -> list[str]:
        return [view.name for view in directory.find(**criteria)]  # type: ignore[arg-type]

    assert names() == ["counter", "french"]
    assert names(agent="french") == ["french"]
    assert names(skill="count") == ["counter"]
    assert names(tags=["text"]) == ["counter", "french"]
    assert names(tags=["text", "fr"]) == ["french"]
    assert names(skill="count", tags=["fr"]) == []
    assert names(skill="translate", contract=digest) == ["french"]
    assert names(contract="sha256:" + "0" * 64) == []


async def test_a_skill_has_a_contract_while_all_who_offer_it_have_the_same(
    broker: MemoryBroker, directory: Directory
) -> None:
    usual = announcement("first", "translate")
    other = announcement("second", "translate")
    other.contracts = [make_contract("translate", {"type": "object", "title": "b"}, SCHEMA)]
    assert directory.contract("translate") is None
    await Holder(broker.connect(), usual).keeper.start()
    await until(directory, lambda views: len(views) == 1)
    assert directory.contract("translate") == usual.contracts[0]

    leaving = Holder(broker.connect(), other)
    await leaving.keeper.start()
    await until(directory, lambda views: len(views) == 2)
    assert directory.contract("translate") is None
    assert directory.contract("translate", agent="second") == other.contracts[0]
    digest = usual.contracts[0].digest
    assert directory.contract("translate", digest=digest) == usual.contracts[0]

    await leaving.keeper.stop()
    await until(directory, lambda views: len(views) == 1)
    assert directory.contract("translate") == usual.contracts[0]
    assert directory.contract("translate", agent="second") is None


async def test_an_instance_that_changes_its_card_changes_what_is_agreed(
    broker: MemoryBroker, directory: Directory
) -> None:
    old, new = announcement("first", "translate"), announcement("first", "count")
    holder, replica = Holder(broker.connect(), old), Holder(broker.connect(), new)
    await holder.keeper.start()
    await replica.keeper.start()
    await until(directory, lambda views: len(views) == 2)
    assert directory.contract("translate") == old.contracts[0]

    renewed = Holder(broker.connect(), new)
    renewed.instance = holder.instance
    await renewed.keeper.start()
    await until(directory, lambda views: len(views) == 1)
    assert directory.contract("translate") is None


async def test_replicas_share_one_view_and_a_rolling_upgrade_has_two(
    broker: MemoryBroker, directory: Directory
) -> None:
    old, new = announcement("alpha", "x"), announcement("alpha", "x", "y")
    for announce in (old, old, new):
        await Holder(broker.connect(), announce).keeper.start()
    views = await until(directory, lambda views: sum(len(v.instances) for v in views) == 3)

    assert sorted(len(view.instances) for view in views) == [1, 2]
    assert {view.name for view in views} == {"alpha"}


async def test_junk_in_the_bucket_is_counted_and_ignored(
    broker: MemoryBroker, directory: Directory
) -> None:
    bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    for key, value in (("inst.a.b", b"junk"), ("card.a.c", b"{}"), ("foreign.key", b"x")):
        await bucket.put(key, value)
    holder = Holder(broker.connect(), announcement("alpha", "x"))
    await holder.keeper.start()

    await until(directory, lambda views: len(views) == 1)
    assert directory.invalid_entries == 2
    await holder.keeper.stop()


async def test_an_invalid_entry_is_warned_of_once_with_what_to_do(
    broker: MemoryBroker, directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    for _ in range(3):
        await bucket.put("inst.a.b", b"junk")
    await bucket.put("inst.a.c", b"junk")
    await Holder(broker.connect(), announcement("alpha", "x")).keeper.start()
    await until(directory, lambda views: len(views) == 1)

    warned = [
        record.getMessage() for record in caplog.records if record.name == "dragoman.registry"
    ]

    assert directory.invalid_entries == 4
    assert [text.split()[2] for text in warned] == ["inst.a.b", "inst.a.c"]
    assert all("dragoman ls --prune" in text for text in warned)


async def test_a_card_under_another_digest_is_not_believed(
    broker: MemoryBroker, directory: Directory
) -> None:
    holder = Holder(broker.connect(), announcement("alpha", "x"))
    await holder.keeper.start()
    await until(directory, lambda views: len(views) == 1)
    bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    [card] = await bucket.entries("card.>")
    await bucket.put("card.alpha." + "0" * 64, card.value)
    await Holder(broker.connect(), announcement("next", "x")).keeper.start()
    await until(directory, lambda views: len(views) == 2)

    assert directory.invalid_entries == 1
    await holder.keeper.stop()


@pytest.mark.parametrize("value", [b"1e400", b'"\xff"'])
async def test_a_card_with_an_unknown_member_that_nobody_can_read_hides_no_other(
    broker: MemoryBroker, directory: Directory, value: bytes
) -> None:
    holder = Holder(broker.connect(), announcement("alpha", "x"))
    await holder.keeper.start()
    bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    [card] = await bucket.entries("card.>")
    unreadable = card.value.replace(b'"data":{', b'"data":{"later":' + value + b",")
    await bucket.put("card.alpha." + "0" * 64, unreadable)

    reader = Directory(broker.connect())
    await reader.start()

    assert [view.name for view in reader.agents()] == ["alpha"]
    assert reader.invalid_entries == 1
    await reader.stop()
    await holder.keeper.stop()


async def test_a_lease_under_another_agents_key_is_not_believed(
    broker: MemoryBroker, directory: Directory
) -> None:
    forger = Holder(broker.connect(), announcement("evil", "x"))
    await forger.keeper.start()
    await until(directory, lambda views: len(views) == 1)
    bucket = await broker.connect().key_value(REGISTRY_BUCKET)
    entry = await bucket.get(forger.key)
    assert entry is not None
    await bucket.put("inst.good.good-1", entry.value)
    # Changes arrive in order, so whoever sees the next one has seen the forgery.
    await Holder(broker.connect(), announcement("next", "x")).keeper.start()
    await until(directory, lambda views: len(views) == 2)

    assert directory.lease("good", "good-1") is None
    assert directory.invalid_entries == 1
