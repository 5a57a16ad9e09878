"""How an agent appears in the registry, stays there, comes back and leaves: heard on the wire."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from dragoman_agents import Agent, serve, serving
from dragoman_bus.protocol.errors import NoResponders
from dragoman_bus.protocol.leases import renewal_interval
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.port import Delivery, Handler, Subscription, Transport
from dragoman_bus.validation import validate_document
from tests.conformance.agent_rules.raw_caller import RawCaller, kind_of, state_of
from tests.conformance.agent_rules.workshop import Workshop
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

REGISTRY = "$KV.dragoman_registry."
BINDING = "https://dragoman.dev/bindings/nats/v1"


class Stage:
    """A caller, a witness of every write to the registry, and connections for agents."""

    def __init__(self, server: NatsServer, stack: AsyncExitStack) -> None:
        self.server = server
        self.stack = stack
        self.writes: list[Delivery] = []
        self.caller: RawCaller

    async def connect(self) -> NatsTransport:
        transport = await NatsTransport.connect(NatsOptions.from_url(self.server.url))
        self.stack.push_async_callback(transport.close)
        return transport

    async def start(self) -> Stage:
        self.caller = await RawCaller(await self.connect()).start()
        await self.caller.transport.subscribe(f"{REGISTRY}>", self.writes.append)
        return self

    def written(self, kind: str) -> list[Delivery]:
        """The writes of leases (``inst``) or announcements (``card``) so far."""
        return [write for write in self.writes if write.subject.startswith(f"{REGISTRY}{kind}.")]

    def leases(self) -> list[dict[str, Any]]:
        """The leases written so far."""
        return [json.loads(write.data)["data"] for write in self.written("inst") if write.data]

    async def position(self, subject: str) -> int:
        """Where the registry's stream has the last write of a key; 0 where there is none."""
        request = f"$JS.API.DIRECT.GET.KV_dragoman_registry.{subject}"
        try:
            answer = await self.caller.transport.request(request, b"", timeout=5)
        except NoResponders:
            return 0
        return int((answer.headers or {}).get("Nats-Sequence", "0"))

    async def ask(self, subject: str, body: bytes = b"") -> dict[str, Any]:
        """The answer of a request that is not one of the protocol."""
        answer = await self.caller.transport.request(subject, body, timeout=5)
        decoded: dict[str, Any] = json.loads(answer.data)
        return decoded


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with NatsServer(tmp_path / "nats") as server, AsyncExitStack() as stack:
        made = await Stage(server, stack).start()
        yield made
        assert made.caller.invalid == []


async def test_an_agent_listens_everywhere_before_it_writes_its_lease(stage: Stage) -> None:
    steps: list[str] = []

    class Recording:
        """A connection that writes down what the server has, in order."""

        def __init__(self, transport: Transport) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        async def subscribe(self, subject: str, handler: Handler, **options: Any) -> Subscription:
            subscription = await self._transport.subscribe(subject, handler, **options)
            steps.append(f"{subject} {options.get('queue', '')}".strip())
            return subscription

        async def key_value(self, bucket: str, **options: Any) -> Any:
            steps.append("registry")
            return await self._transport.key_value(bucket, **options)

    agent = Workshop().agent
    recording: Any = Recording(await stage.connect())
    async with serving(agent, recording) as instance:
        listening = set(steps[: steps.index("registry")])

    assert listening >= {
        "dragoman.v1.rpc.workshop workshop",
        f"dragoman.v1.inst.{instance.id}.*",
        *(f"dragoman.v1.skill.{skill} skill" for skill in agent.skills),
        *(f"dragoman.v1.ask.{skill} workshop" for skill in agent.skills),
    }


async def test_an_announcement_is_stored_under_its_digest_before_the_lease_and_only_once(
    stage: Stage,
) -> None:
    async with serving(Workshop().agent, await stage.connect()) as first:
        async with serving(Workshop().agent, await stage.connect()) as second:
            await eventually(lambda: len({lease["instance"] for lease in stage.leases()}) == 2)
        await stage.caller.settle()

    cards = stage.written("card")
    assert len(cards) == 1
    assert stage.writes[0] is cards[0]
    data = json.loads(cards[0].data)["data"]
    assert validate_document(cards[0].data) == []
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    assert cards[0].subject == f"{REGISTRY}card.workshop.{digest}"
    assert {lease["card"] for lease in stage.leases()} == {f"sha256:{digest}"}
    assert first.id != second.id


async def test_a_card_tells_its_binding_its_versions_and_a_contract_per_skill(
    stage: Stage,
) -> None:
    agent = Workshop().agent
    async with serving(agent, await stage.connect()):
        await eventually(lambda: stage.written("card"))
    data = json.loads(stage.written("card")[0].data)["data"]

    (interface,) = data["card"]["supportedInterfaces"]
    assert (interface["protocolBinding"], interface["url"], interface["protocolVersion"]) == (
        BINDING,
        "nats:dragoman.v1.rpc.workshop",
        "1.0",
    )
    assert data["protocolVersions"] == ["1.0"]
    skills = [skill["id"] for skill in data["card"]["skills"]]
    assert [contract["skill"] for contract in data["contracts"]] == skills
    assert len(set(skills)) == len(agent.skills)
    for contract in data["contracts"]:
        for schema in (contract["inputSchema"], contract["outputSchema"]):
            text = json.dumps(schema)
            assert text.count('"$ref"') == text.count('"$ref": "#/$defs/')


async def test_a_lease_lives_ten_seconds_and_is_renewed_every_three(stage: Stage) -> None:
    async with serving(Workshop().agent, await stage.connect()) as instance:
        await eventually(stage.leases)
    (lease, *_) = stage.leases()

    assert lease["leaseSeconds"] == 10
    assert renewal_interval(10) == pytest.approx(3)
    write = stage.written("inst")[0]
    assert write.subject == f"{REGISTRY}inst.workshop.{instance.id}"
    assert (write.headers or {})["Nats-TTL"] in ("10", "10s")
    assert (write.headers or {})["Nats-Expected-Last-Subject-Sequence"] == "0"


async def test_renewals_come_three_times_a_lease_and_tell_the_load(stage: Stage) -> None:
    workshop = Workshop(concurrency=1, queue=3)
    async with serving(workshop.agent, await stage.connect(), lease_seconds=1, grace_seconds=1):
        tasks = [await stage.caller.submit("hold") for _ in range(3)]

        def told(running: int, queued: int) -> bool:
            load = [(lease["running"], lease["queued"], lease["slots"]) for lease in stage.leases()]
            return (running, queued, 1) in load

        await eventually(lambda: told(1, 2))
        workshop.release.set()
        for answers in tasks:
            await answers.end()
        # Others than the first: that one said so before any task had come.
        before = len(stage.leases())
        await eventually(lambda: len(stage.leases()) >= before + 4)
        assert stage.leases()[-1]["running"] == stage.leases()[-1]["queued"] == 0
    expected = [
        (write.headers or {})["Nats-Expected-Last-Subject-Sequence"]
        for write in stage.written("inst")
        if write.data
    ]
    assert expected == sorted(expected, key=int)
    assert len(set(expected)) == len(expected)
    assert renewal_interval(1) * 3 <= 1


async def test_a_drained_agent_says_so_finishes_says_goodbye_and_only_then_falls_silent(
    stage: Stage,
) -> None:
    workshop = Workshop()
    served = asyncio.create_task(serve(workshop.agent, stage.server.url, grace_seconds=30))
    await eventually(stage.leases)
    instance = stage.leases()[0]["instance"]
    answers = await stage.caller.submit("hold")
    await answers.first()
    assert (await stage.caller.ask(instance, "drain"))["data"]["state"] == "draining"
    await eventually(lambda: stage.leases()[-1]["state"] == "draining")

    # The subjects it shares with replicas go to others, and here there are none.
    async def left(subject: str) -> bool:
        asked = await stage.caller.send(subject, stage.caller.submission("echo"))
        await eventually(lambda: asked.nobody or asked.documents)
        return asked.nobody

    for subject in ("rpc.workshop", "skill.echo", "ask.echo"):
        await eventually(lambda subject=subject: left(f"dragoman.v1.{subject}"))  # type: ignore[misc]
    # Operations on what runs are still answered, up to the end.
    status = await stage.caller.ask(instance, "status")
    assert (status["data"]["state"], status["data"]["running"]) == ("draining", 1)
    assert kind_of(await stage.caller.ask(instance, "get", taskId=answers.task)) == "task.snapshot"
    assert all(write.data for write in stage.written("inst"))

    ended_before: list[bool] = []

    def on_write(delivery: Delivery) -> None:
        if (delivery.headers or {}).get("KV-Operation") == "DEL":
            ended_before.append(state_of(answers.documents[-1]) == "TASK_STATE_COMPLETED")

    await stage.caller.transport.subscribe(f"{REGISTRY}inst.>", on_write)
    workshop.release.set()
    await answers.end()
    await asyncio.wait_for(served, 15)
    await stage.caller.settle()

    assert ended_before == [True]
    silent = await stage.caller.tell(instance, "status", {})
    await silent.silence()


async def test_a_drain_with_a_grace_ends_what_does_not_end_by_itself(stage: Stage) -> None:
    workshop = Workshop()
    served = asyncio.create_task(serve(workshop.agent, stage.server.url, grace_seconds=600))
    await eventually(stage.leases)
    answers = await stage.caller.submit("hold")
    await answers.first()

    await stage.caller.ask(stage.leases()[0]["instance"], "drain", graceSeconds=0.2)
    end = await answers.end()
    await asyncio.wait_for(served, 15)
    await stage.caller.settle()

    assert state_of(end) == "TASK_STATE_CANCELED"
    goodbye = stage.written("inst")[-1]
    assert (goodbye.data, (goodbye.headers or {}).get("KV-Operation")) == (b"", "DEL")


@pytest.mark.parametrize("wiped", [False, True], ids=["kept", "wiped"])
async def test_after_a_restart_of_the_server_an_agent_is_there_again_and_its_tasks_went_on(
    stage: Stage, wiped: bool
) -> None:
    workshop = Workshop()
    async with serving(workshop.agent, await stage.connect(), lease_seconds=2) as instance:
        answers = await stage.caller.submit("hold")
        await answers.first()
        card = stage.written("card")[0].subject
        lease = stage.written("inst")[0].subject
        first = await stage.position(lease)
        stage.server.kill()
        if wiped:
            shutil.rmtree(stage.server.data_directory / "jetstream")
        workshop.release.set()
        await eventually(lambda: not instance.running)
        await stage.server.start_async()
        await eventually(lambda: stage.caller.transport.connected, 30)

        async def renewed() -> bool:
            return await stage.position(lease) > (0 if wiped else first)

        await eventually(renewed, 30)
        # Whoever has seen the lease reaches the agent, and finds its announcement.
        ended = await stage.caller.ask(instance.id, "get", taskId=answers.task)
        for subject in ("rpc.workshop", "skill.echo"):
            again = await stage.caller.submit("echo", subject=f"dragoman.v1.{subject}")
            assert state_of(await again.end()) == "TASK_STATE_COMPLETED"
        positions = [await stage.position(subject) for subject in (card, lease)]

    assert state_of(ended) == "TASK_STATE_COMPLETED"
    # Written first of all, and never again: also where the server had lost it.
    assert positions[0] == 1
    assert positions[1] > 1


async def test_a_task_runs_on_while_the_server_is_away_and_what_follows_comes_after(
    stage: Stage,
) -> None:
    agent = Agent("steady")
    away, counted, back = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @agent.skill
    async def count(text: str) -> AsyncIterator[str]:
        yield "1"
        await away.wait()
        yield "2"
        counted.set()
        await back.wait()
        yield "3"

    transport = await stage.connect()
    async with serving(agent, transport) as instance:
        answers = await stage.caller.submit("count")
        await answers.first()
        stage.server.kill()
        await eventually(lambda: not transport.connected)
        away.set()
        await asyncio.wait_for(counted.wait(), 15)
        await stage.server.start_async()
        await eventually(lambda: transport.connected and stage.caller.transport.connected, 30)
        back.set()
        end = await answers.end()
        whole = await stage.caller.ask(instance.id, "get", taskId=answers.task)

    assert state_of(end) == "TASK_STATE_COMPLETED"
    parts = whole["data"]["task"]["artifacts"][0]["parts"]
    assert "".join(part["text"] for part in parts) == "123"
    # What was sent meanwhile may be lost to this caller, and is counted.
    assert end["data"]["sequence"] >= 4


async def test_a_service_answers_nats_tools_while_all_its_slots_are_busy(stage: Stage) -> None:
    workshop = Workshop(concurrency=1, queue=1)
    async with serving(workshop.agent, await stage.connect()) as instance:
        tasks = [await stage.caller.submit("hold") for _ in range(2)]
        await tasks[0].first()
        await (await stage.caller.submit("hold")).first()
        await (await stage.caller.send("dragoman.v1.rpc.workshop", b"junk")).first()
        for verb in ("PING", "INFO", "STATS"):
            for scope in ("", ".workshop", f".workshop.{instance.id}"):
                answer = await stage.ask(f"$SRV.{verb}{scope}")
                assert answer["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
                assert (answer["name"], answer["id"]) == ("workshop", instance.id)
        info, stats = await stage.ask("$SRV.INFO"), await stage.ask("$SRV.STATS")
        workshop.release.set()
        for answers in tasks:
            await answers.end()
        after = await stage.ask("$SRV.STATS")

    card = json.loads(stage.written("card")[0].data)["data"]["card"]
    assert info["metadata"] == {
        "dragoman.protocol": "1.0",
        "dragoman.card": stage.leases()[0]["card"],
        "dragoman.models": "",
    }
    assert (info["version"], info["description"]) == (card["version"], card["description"])
    endpoints = {one["name"]: (one["subject"], one["queue_group"]) for one in info["endpoints"]}
    assert endpoints["rpc"] == ("dragoman.v1.rpc.workshop", "workshop")
    assert endpoints["skill-echo"] == ("dragoman.v1.skill.echo", "skill")
    assert endpoints["ask-echo"] == ("dragoman.v1.ask.echo", "workshop")
    for seen in (info, stats):
        assert json.dumps(card["skills"][0]) not in json.dumps(seen["metadata"])
    busy = stats["endpoints"][0]["data"]
    assert busy == {
        "state": "ready", "slots": 1, "running": 1, "queued": 1, "refused": 2, "invalid": 1,
        "inputTokens": 0, "outputTokens": 0, "cost": {},
    }  # fmt: skip
    assert after["endpoints"][0]["data"]["inputTokens"] == 6
    assert after["endpoints"][0]["num_requests"] == 2


async def test_nats_py_reads_the_answers_of_a_service_as_its_own(stage: Stage) -> None:
    from nats.aio.client import Client
    from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

    client = Client()
    await client.connect(stage.server.url)
    async with serving(Workshop().agent, await stage.connect()) as instance:
        for verb, shape in (("PING", ServicePing), ("INFO", ServiceInfo), ("STATS", ServiceStats)):
            answer = await client.request(f"$SRV.{verb}.workshop", b"", timeout=5)
            read = shape.from_dict(json.loads(answer.data))
            assert (read.name, read.id) == ("workshop", instance.id)
    await client.close()
