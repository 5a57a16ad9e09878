"""All that real agents and callers send is heard on the wire and judged, one by one.

A witness on a real server hears every subject; the traffic has streams, questions, delegation,
cancellation, refusals, failures, events, leases, status requests and a drain.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from dragoman_agents import Agent, Context, serving
from dragoman_bus import Bus, connect
from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.envelopes import Sender, client_source
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.messages import AgentDrain, AgentStatus
from dragoman_bus.protocol.payloads import DrainData, StatusRequestData
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.port import Delivery
from dragoman_bus.validation import validate_document
from tests.conformance.caller_rules.raw_agent import strict_document
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

EVERY_TYPE = {
    "task.submit", "task.reply", "task.cancel", "task.get", "task.subscribe", "task.flow",
    "task.status", "task.artifact", "task.final", "task.snapshot", "error", "agent.announce",
    "agent.lease", "agent.status", "agent.drain", "bus.event",
}  # fmt: skip


def agents() -> list[Agent]:
    """One agent that does everything, and one that it delegates to."""
    helper = Agent("helper")

    @helper.skill
    async def shout(text: str) -> str:
        return text.upper()

    agent = Agent("worker", concurrency=4)

    @agent.skill
    async def spell(text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter

    @agent.skill
    async def question(text: str, ctx: Context) -> str:
        answer = await ctx.ask(f"{text}?")
        await ctx.status("thanks")
        return str((await ctx.delegate("shout", text=str(answer))).value)

    @agent.skill
    async def hang(text: str, ctx: Context) -> str:
        await ctx.status("hanging")
        await asyncio.Event().wait()
        return text

    @agent.skill
    async def broken(text: str) -> str:
        raise ValueError(text)

    return [helper, agent]


async def talk(bus: Bus) -> None:
    """Cause every type of message that callers and agents exchange."""
    await bus.ask("shout", "hello")
    streaming = await bus.submit("spell", "a text longer than its window" * 4, flow_window=8)
    async for _ in streaming:
        pass
    asking = await bus.submit("question", "well")
    await eventually(lambda: asking.question)
    await asking.get()
    await asking.reply("fine")
    await asking.result()
    hanging = await bus.submit("hang", "x")
    await eventually(lambda: hanging.instance)
    await hanging.cancel("enough")
    for skill, given in (("broken", "x"), ("shout", {"no": "text"})):
        with pytest.raises(DragomanError):
            await bus.ask(skill, given)
    with pytest.raises(DragomanError):
        await bus.ask("nothing", "x", agent="worker")
    async with bus.listen("news") as events:
        await bus.publish("news", "arrived", {"n": 1})
        await anext(events)


async def operate(transport: NatsTransport, bus: Bus) -> None:
    """What an operator sends."""
    instance = (await bus.discover(agent="worker"))[0].instances[0].instance
    sender = Sender(client_source("operator"), lambda: 0.0, iter(["o-1", "o-2"]).__next__)
    for operation, message in (
        ("status", sender.wrap(AgentStatus, StatusRequestData())),
        ("drain", sender.wrap(AgentDrain, DrainData(reason="test"))),
    ):
        subject = f"dragoman.v1.inst.{instance}.{operation}"
        await transport.request(subject, encode(message), timeout=5)


@pytest.fixture(scope="module")
async def heard(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> list[Delivery]:
    """All that was sent, in the order in which one witness heard it."""
    deliveries: list[Delivery] = []
    directory = tmp_path_factory.mktemp("traffic")
    async with NatsServer(directory) as server, connect(server.url) as bus:
        witness, first, second = [
            await NatsTransport.connect(NatsOptions.from_url(server.url)) for _ in range(3)
        ]
        for subject in ("dragoman.v1.>", "_INBOX.>", "$KV.dragoman_registry.>"):
            await witness.subscribe(subject, deliveries.append)
        helper, worker = agents()
        async with serving(helper, first), serving(worker, second):
            await talk(bus)
            streaming = await bus.submit("spell", "once more")
            await eventually(lambda: streaming.instance)
            bus._courier._on_reconnect()
            await streaming.result()
            again = await bus.submit("hang", "x")
            await eventually(lambda: again.instance)
            bus._courier._on_reconnect()
            await eventually(lambda: _has(deliveries, "task.subscribe"))
            await again.cancel()
            await operate(witness, bus)
        await witness.flush()
        for transport in (witness, first, second):
            await transport.close()
    return deliveries


def _has(deliveries: list[Delivery], kind: str) -> bool:
    return any(f'"type":"dev.dragoman.{kind}"'.encode() in heard.data for heard in deliveries)


@pytest.fixture
def documents(heard: list[Delivery]) -> list[tuple[str, bytes]]:
    """Subject and body of every message of the protocol; JetStream's own answers are not."""
    return [
        (delivery.subject, delivery.data)
        for delivery in heard
        if delivery.data
        and not (delivery.headers or {}).get("Nats-Stream")
        and not delivery.data.startswith((b'{"type":"io.nats', b'{"stream":', b'{"error":'))
    ]


def test_the_traffic_has_every_type_of_message(documents: list[tuple[str, bytes]]) -> None:
    seen = {json.loads(body)["type"].removeprefix("dev.dragoman.") for _, body in documents}
    assert seen == EVERY_TYPE


def test_every_message_is_valid_against_the_schema_of_its_type(
    documents: list[tuple[str, bytes]],
) -> None:
    assert [(body, wrong) for _, body in documents if (wrong := validate_document(body))] == []


def test_every_message_is_one_strict_document_without_null_or_repeated_names(
    documents: list[tuple[str, bytes]],
) -> None:
    for _, body in documents:
        assert "null" not in _leaves(strict_document(body))


def _leaves(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(_leaves, value.values()), set())
    if isinstance(value, list):
        return set().union(*map(_leaves, value), set())
    return {json.dumps(value)}


def test_no_message_has_a_member_that_its_type_does_not_define(
    documents: list[tuple[str, bytes]],
) -> None:
    # The structs of A2A objects have A2A's members only, so what they lose is no member of A2A.
    for _, body in documents:
        message = decode(body)
        assert json.loads(msgspec.json.encode(message)) == json.loads(body)


def test_every_message_of_a_source_has_an_id_of_its_own(
    documents: list[tuple[str, bytes]],
) -> None:
    different = {body for _, body in documents}
    read = [json.loads(body) for body in different]
    counts = Counter((document["source"], document["id"]) for document in read)
    assert [name for name, count in counts.items() if count > 1] == []


def test_subjects_are_made_of_tokens_and_none_is_reserved(
    documents: list[tuple[str, bytes]],
) -> None:
    token = "[a-z0-9_-]{1,63}"
    allowed = re.compile(
        rf"dragoman\.v1\.(rpc|skill)\.{token}"
        rf"|dragoman\.v1\.inst\.{token}\.(submit|cancel|reply|get|subscribe|flow|status|drain)"
        rf"|dragoman\.v1\.bus\.{token}\.{token}"
        rf"|\$KV\.dragoman_registry\.(inst|card)\.{token}\.{token}[0-9a-f]?"
        r"|_INBOX\..+"
    )
    assert {subject for subject, _ in documents if not allowed.fullmatch(subject)} == set()


def test_a_skill_subject_names_the_skill_of_its_submission(
    documents: list[tuple[str, bytes]],
) -> None:
    found = [
        (subject.rpartition(".")[2], json.loads(body)["data"]["skill"])
        for subject, body in documents
        if subject.startswith("dragoman.v1.skill.")
    ]
    assert found
    assert [pair for pair in found if pair[0] != pair[1]] == []


def test_an_event_stands_on_the_subject_of_its_topic(documents: list[tuple[str, bytes]]) -> None:
    found = [
        (subject, json.loads(body)["data"])
        for subject, body in documents
        if subject.startswith("dragoman.v1.bus.")
    ]
    assert [(s, d["topic"], d["event"]) for s, d in found] == [
        ("dragoman.v1.bus.news.arrived", "news", "arrived")
    ]
