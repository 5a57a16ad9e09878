"""An agent, a caller and a router in JavaScript work with ours, and follow the rules."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest

from dragoman_agents import Agent, Context, serving
from dragoman_bus import Bus
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent, TaskState
from dragoman_bus.protocol.errors import InvalidInput
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.port import Delivery
from tests.conformance.agent_rules.raw_caller import RawCaller, kind_of, log_of, state_of
from tests.conformance.caller_rules.raw_agent import RawAgent
from tests.conformance.foreign.conftest import Node, connection
from tests.integration.cli.programs import environment
from tests.support.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.foreign]

RPC = "dragoman.v1.rpc.node"
REGISTRY = "$KV.dragoman_registry."


async def dragoman(server: NatsServer, *arguments: str) -> str:
    """What a command of ours prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dragoman_gateways.cli", *arguments,
        stdout=asyncio.subprocess.PIPE, env=environment(NATS_URL=server.url),
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return output.decode()


async def present(bus: Bus, agent: str) -> str:
    """The id of the agent's one instance, once the registry has it."""

    async def there() -> bool:
        return bool(await bus.discover(agent=agent))

    await eventually(there)
    (view,) = await bus.discover(agent=agent)
    return view.instances[0].instance


async def test_a_foreign_agent_is_listed_and_answers_like_ours(
    node: Node, server: NatsServer, bus: Bus
) -> None:
    await node.start("agent.mjs")
    await present(bus, "node")

    listed = json.loads((await dragoman(server, "ls", "--json")).splitlines()[0])
    assert "node" in json.dumps(listed)
    assert "daerb dooG" in await dragoman(server, "ask", "reverse", "Good bread")
    task = await bus.submit("count", {"to": 5})
    chunks = [update async for update in task if isinstance(update, TaskArtifactUpdateEvent)]
    pieces = [chunk.artifact.parts[0].text for chunk in chunks]
    assert pieces == ["1 ", "2 ", "3 ", "4 ", "5 "]
    result = await task.result()
    assert result.text == "1 2 3 4 5 "
    assert result.receipt is not None
    assert result.receipt.agent == "node"
    # Our caller has the contract from the registry, so this never leaves.
    with pytest.raises(InvalidInput, match="/to"):
        await bus.ask("count", {"to": "many"})


async def test_a_foreign_agent_refuses_and_repeats_as_the_rules_say(
    node: Node, bus: Bus, caller: RawCaller
) -> None:
    await node.start("agent.mjs")
    instance = await present(bus, "node")
    lineage = {"parentTaskId": "p", "rootTaskId": "p", "path": ["node"]}
    for skill, members, code in (
        ("juggle", {}, "UNKNOWN_SKILL"),
        ("reverse", {"contract": "sha256:" + "0" * 64}, "CONTRACT_MISMATCH"),
        ("reverse", {"requiredExtensions": ["urn:x"]}, "EXTENSION_REQUIRED"),
        ("reverse", {"limits": {"deadline": "2020-01-01T00:00:00Z"}}, "DEADLINE_EXCEEDED"),
        ("reverse", {"lineage": lineage}, "DELEGATION_LOOP"),
    ):
        refused = await (await caller.submit(skill, subject=RPC, **members)).first()
        assert refused["data"]["error"]["code"] == code
        assert refused["data"]["taskId"]
    rejected = await (await caller.submit("count", {"to": "many"})).end()
    assert (state_of(rejected), rejected["data"]["error"]["code"]) == (
        "TASK_STATE_REJECTED",
        "INVALID_INPUT",
    )
    submission = caller.submission("reverse", "abc", task="same")
    subject = f"dragoman.v1.inst.{instance}.submit"
    first = await (await caller.send(subject, submission)).end()
    again = await (await caller.send(subject, submission)).end()
    assert (kind_of(first), kind_of(again)) == ("task.final", "task.snapshot")
    other = caller.submission("reverse", "xyz", task="same")
    conflict = await (await caller.send(subject, other)).first()
    assert conflict["data"]["error"]["code"] == "TASK_CONFLICT"
    for bad, code in (
        (b"", "INVALID_MESSAGE"),
        (b"\xff\xfe", "INVALID_MESSAGE"),
        (b"[" * 5000, "INVALID_MESSAGE"),
        (json.dumps(submission | {"time": "never"}).encode(), "INVALID_MESSAGE"),
        (json.dumps(submission | {"protocolversion": "2.0"}).encode(), "UNSUPPORTED_VERSION"),
        (json.dumps(submission | {"type": "dev.dragoman.no"}).encode(), "UNKNOWN_TYPE"),
        (json.dumps(caller.envelope("task.get", {"taskId": "t"})).encode(), "UNKNOWN_TYPE"),
    ):
        for place in (RPC, "dragoman.v1.skill.reverse", "dragoman.v1.ask.reverse", subject):
            refused = await (await caller.send(place, bad)).first()
            assert refused["data"]["error"]["code"] == code, (bad[:40], place)
    assert (await bus.ask("reverse", "alive", agent="node")).text == "evila"


async def test_a_foreign_agent_streams_within_the_window_and_can_be_canceled(
    node: Node, bus: Bus, caller: RawCaller
) -> None:
    await node.start("agent.mjs")
    instance = await present(bus, "node")
    answers = await caller.submit("count", {"to": 1000}, flowWindow=4)
    await answers.until(lambda documents: len(documents) == 4)
    snapshot = await caller.ask(instance, "get", taskId=answers.task)
    assert (snapshot["data"]["sequence"], len(answers.documents)) == (4, 4)
    moved = await caller.tell(instance, "subscribe", {"taskId": answers.task, "flowWindow": 2})
    await moved.until(lambda documents: len(documents) == 3)
    assert [one["data"]["sequence"] for one in moved.documents] == [4, 5, 6]

    canceled = await caller.ask(instance, "cancel", taskId=answers.task)
    end = await moved.end()
    assert (kind_of(canceled), state_of(canceled)) == ("task.snapshot", "TASK_STATE_WORKING")
    assert state_of(end) == "TASK_STATE_CANCELED"
    slow = await bus.submit("count", {"to": 100, "pause": 1})
    await eventually(lambda: slow.instance)
    assert await asyncio.wait_for(slow.cancel("enough"), 10) is TaskState.CANCELED
    quiet = await caller.submit("count", {"to": 2, "pause": 2.5})
    await quiet.end()
    log = log_of(quiet)
    assert [one["data"]["sequence"] for one in log] == list(range(1, len(log) + 1))
    assert "task.status" in {kind_of(one) for one in log}


async def test_a_foreign_agent_keeps_its_lease_shows_itself_and_says_goodbye(
    node: Node, server: NatsServer, bus: Bus, caller: RawCaller
) -> None:
    writes: list[Delivery] = []
    await caller.transport.subscribe(f"{REGISTRY}>", writes.append)
    process = await node.start("agent.mjs")
    instance = await present(bus, "node")
    ping = await caller.transport.request(f"$SRV.PING.node.{instance}", b"", timeout=5)
    assert json.loads(ping.data)["type"] == "io.nats.micro.v1.ping_response"
    status = await caller.ask(instance, "status")
    assert status["data"]["state"] == "ready"
    slow = await caller.submit("count", {"to": 2, "pause": 1})
    await slow.first()
    process.send_signal(signal.SIGTERM)
    assert state_of(await slow.end()) == "TASK_STATE_COMPLETED"
    assert await asyncio.wait_for(process.wait(), 20) == 0

    leases = [write for write in writes if ".inst.node." in write.subject]
    states = [json.loads(write.data)["data"]["state"] for write in leases if write.data]
    assert (states[0], states[-1]) == ("ready", "draining")
    assert (leases[-1].headers or {}).get("KV-Operation") == "DEL"
    assert (leases[0].headers or {})["Nats-TTL"] == "10"
    assert await bus.discover(agent="node") == []


async def test_a_foreign_caller_is_served_by_our_agents(
    node: Node, server: NatsServer, connected: AsyncExitStack
) -> None:
    agent = Agent("ours")

    @agent.skill
    async def shout(text: str) -> str:
        return text.upper()

    @agent.skill
    async def long(text: str, *, ctx: Context) -> str:
        for number in range(500):
            await ctx.emit(f"{number} ")
        return "".join(f"{number} " for number in range(500))

    @agent.skill
    async def broken(text: str) -> str:
        raise ValueError(text)

    await connected.enter_async_context(serving(agent, await connection(server, connected)))

    assert (await node.call("shout", "hello"))[:2] == (0, "HELLO")
    code, output, _ = await node.call("long", "x")
    assert (code, output.split()) == (0, [str(number) for number in range(500)])
    code, _, errors = await node.call("broken", "vase")
    assert code == 1
    assert "SKILL_FAILED: ValueError: vase" in errors
    code, _, errors = await node.call("nobody-has-this", "x")
    assert code == 1
    assert "AGENT_UNAVAILABLE" in errors


async def test_a_foreign_caller_repairs_a_gap_and_shows_nothing_twice(
    node: Node, server: NatsServer, connected: AsyncExitStack
) -> None:
    raw = await RawAgent(await connection(server, connected)).start()
    calling = asyncio.ensure_future(node.call("work", "x"))
    request = await raw.expect("task.submit", 30)
    task = request.task
    await raw.send(
        request.reply,
        raw.chunk(task, 1, "one ", append=False),
        raw.chunk(task, 1, "one ", append=False),
        b"junk",
        raw.chunk(task, 3, "three "),
    )
    repair = await raw.expect("task.subscribe", 30)
    assert repair.data["after"] == 1
    await raw.send(
        repair.reply,
        raw.snapshot(task, 3, "one ", "two ", "three "),
        raw.final(task, 4),
    )

    assert (await calling)[:2] == (0, "one two three ")
    assert raw.invalid == []


class Taker:
    """Listens as an agent, and keeps the bytes as they come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taken: list[Delivery] = []

    async def start(self, node: Node, stack: AsyncExitStack) -> Taker:
        raw = RawAgent(await connection(node.server, stack), agent=self.name, skill=self.name)
        self.documents = raw
        self.transport = raw.transport
        await raw.transport.subscribe(f"dragoman.v1.rpc.{self.name}", self.taken.append)
        lease = {
            "agent": self.name,
            "instance": f"{self.name}-1",
            "card": "sha256:" + "0" * 64,
            "state": "ready",
            "leaseSeconds": 60,
            "slots": 1,
            "running": 0,
            "queued": 0,
            "startedAt": "2026-01-01T00:00:00Z",
        }
        document = raw.envelope("agent.lease", lease, source=f"/agents/{self.name}/{self.name}-1")
        subject = f"{REGISTRY}inst.{self.name}.{self.name}-1"
        await raw.transport.publish(subject, json.dumps(document).encode())
        await raw.transport.flush()
        return self


async def test_a_router_hands_a_task_on_as_it_came_to_one_agent_only(
    node: Node, caller: RawCaller, connected: AsyncExitStack
) -> None:
    await node.start("router.mjs", "front", "left", "right")
    # Nobody is there yet: the router says so itself.
    refused = await (await caller.submit("work", subject="dragoman.v1.rpc.front")).first()
    assert refused["data"]["error"]["code"] == "AGENT_UNAVAILABLE"
    left, right = [await Taker(name).start(node, connected) for name in ("left", "right")]

    sent: dict[str, Any] = {}
    for number in range(4):
        document = caller.submission("work", task=f"routed-{number}") | {"com.example.new": [1.5]}
        body = json.dumps(document, indent=number).encode()
        sent[body.decode()] = await caller.send("dragoman.v1.rpc.front", body)
    await eventually(lambda: len(left.taken) + len(right.taken) == 4)

    for taker in (left, right):
        assert len(taker.taken) == 2
        for delivery in taker.taken:
            answers = sent[delivery.data.decode()]
            assert delivery.reply == answers.subject
            task = json.loads(delivery.data)["data"]["taskId"]
            busy = taker.documents.status(task, 1)
            final = taker.documents.final(task, 2, "done")
            for message in (busy, final):
                await taker.transport.publish(delivery.reply, json.dumps(message).encode())
    for answers in sent.values():
        await answers.end()
        # What reaches the caller is the agent's alone, and the task stays where it was accepted.
        assert {one["source"] for one in log_of(answers)} <= {
            left.documents.source,
            right.documents.source,
        }
        assert len(answers.documents) == 2
    assert len(left.taken) + len(right.taken) == 4
