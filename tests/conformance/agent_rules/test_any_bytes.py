"""Any bytes on every subject that anybody listens to: an error or a counted drop, and life goes on.

The subjects are not written down here. They are what the server says that the agent, the
supervisor and the caller are subscribed to, and what its streams store, so that a new one cannot
be forgotten.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from dragoman_agents import serving
from dragoman_bus import Bus
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.server import NatsServer
from dragoman_bus.service import Instance
from dragoman_bus.supervisor import supervising
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.port import Delivery
from dragoman_bus.validation import validate_document
from tests.conformance.agent_rules.raw_caller import RawCaller
from tests.conformance.agent_rules.workshop import Workshop
from tests.conftest import MAX_PAYLOAD
from tests.integration.durable.conftest import SETTINGS
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PROTOCOL_CODES = {
    "INVALID_MESSAGE",
    "PAYLOAD_TOO_LARGE",
    "TASK_NOT_FOUND",
    "UNKNOWN_SKILL",
    "UNKNOWN_TYPE",
    "UNSUPPORTED_VERSION",
}


class House:
    """A real server with its monitoring, an agent, a supervisor, a caller, and an intruder."""

    def __init__(self, server: NatsServer) -> None:
        self.server = server
        self.workshop = Workshop(concurrency=8)
        self.instance: Instance
        self.bus: Bus
        self.intruder: NatsTransport
        self.answers: list[Delivery] = []

    async def start(self, stack: AsyncExitStack) -> House:
        async def connected() -> NatsTransport:
            transport = await NatsTransport.connect(NatsOptions.from_url(self.server.url))
            stack.push_async_callback(transport.close)
            return transport

        supervisor = await connected()
        await stack.enter_async_context(supervising(supervisor, SETTINGS))
        served = serving(self.workshop.agent, await connected(), ack_wait=2.0, grace_seconds=0.2)
        self.instance = await stack.enter_async_context(served)
        self.bus = await stack.enter_async_context(Bus(await connected()))
        await self.bus.directory()
        self.intruder = await connected()
        await self.intruder.subscribe("answers.>", self.answers.append)
        return self

    async def subjects(self) -> set[str]:
        """What anybody but the intruder listens to, and what is stored."""

        def read(path: str) -> dict[str, Any]:
            address = f"http://127.0.0.1:{self.server.monitoring_port}/{path}"
            with urllib.request.urlopen(address, timeout=5) as response:
                decoded: dict[str, Any] = json.load(response)
            return decoded

        listened = await asyncio.to_thread(read, "subsz?subs=1&limit=10000")
        stored = await asyncio.to_thread(read, "jsz?streams=1&config=1")
        assert listened["total"] == len(listened["subscriptions_list"])
        heard = {one["subject"] for one in listened["subscriptions_list"]}
        for account in stored["account_details"]:
            for stream in account["stream_detail"]:
                heard |= set(stream["config"]["subjects"])
        # The server's own services answer for themselves, and the intruder hears its answers.
        return {one for one in heard if not one.startswith(("$JS.", "$JSC.", "$SYS.", "answers."))}

    async def lives(self) -> None:
        """Direct and durable tasks are still done, and the agent is still listed."""
        assert (await self.bus.ask("echo", "alive", deadline=20)).text == "alive"
        result = await self.bus.ask("echo", "durable", delivery="durable", deadline=20)
        assert result.text == "durable"
        listed = [task.skill async for task in self.bus.durable.tasks()]
        assert {"hold", "echo"} <= set(listed)
        # One of the hostile documents is a task like any other, whose output fits no message.
        letters = [letter async for letter in self.bus.durable.dead_letters.all()]
        assert {letter.data.task_id for letter in letters} <= {"huge"}
        assert [view.name for view in await self.bus.discover(agent="workshop")] == ["workshop"]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    server = NatsServer(tmp_path / "nats", monitoring_port=0, max_payload=MAX_PAYLOAD)
    async with server, AsyncExitStack() as stack:
        yield await House(server).start(stack)


VALID = {"a huge text", "an unknown skill", "an unknown task", "an error about another task"}
OPERATIONS = ("submit", "cancel", "reply", "get", "subscribe", "flow", "status", "drain")
KINDS = ("submit", "state", "update", "step", "child", "control")


def concrete(pattern: str) -> list[str]:
    """Subjects that a pattern hears: every operation and kind, and one nobody knows."""
    start = pattern.rstrip("*>")
    if pattern.startswith("dragoman.v1.inst."):
        return [start + operation for operation in (*OPERATIONS, "unheard-of")]
    if re.match(r"dragoman\.v1\.(evt|live)\.", pattern):
        task = "some-task." if pattern.endswith(">") else ""
        return [f"{start}{task}{kind}" for kind in (*KINDS, "unheard-of")]
    if pattern == "dragoman.v1.task.>":
        return [start + rest for rest in ("echo.interactive", "workshop.echo.batch")]
    if pattern == "$KV.dragoman_registry.>":
        return [start + key for key in ("inst.workshop.i-1", f"card.workshop.{'0' * 64}", "any")]
    if pattern.startswith("_INBOX."):
        # Reply subjects are numbered: some belong to tasks that are open.
        return [start + number for number in ("any", "1", "2", "3", "4")]
    return [re.sub(r">$", "some.where", pattern.replace("*", "any"))]


def hostile(house: House) -> dict[str, bytes]:
    """Documents that nobody should trip over."""
    raw = RawCaller(house.intruder)
    submission = raw.submission("echo", task="fuzz")
    whole = json.dumps(submission).encode()
    return {
        "empty": b"",
        "random": bytes(range(256)) * 4,
        "truncated": whole[: len(whole) // 2],
        "another encoding": whole.decode().encode("utf-16"),
        "deep": b'{"a":' * 20_000,
        "deep in a valid one": json.dumps(raw.submission("echo", {"x": "HERE"}, task="fuzz"))
        .encode()
        .replace(b'"HERE"', b"[" * 200 + b"]" * 200),
        "null": b"null",
        "huge": b"[" + b"1," * (MAX_PAYLOAD // 2 - 600) + b"1]",
        "a huge text": json.dumps(
            raw.submission("echo", "x" * (MAX_PAYLOAD - 2000), task="huge")
        ).encode(),
        "wrong version": json.dumps(submission | {"protocolversion": "9.0"}).encode(),
        "no version": json.dumps(submission | {"protocolversion": "nine"}).encode(),
        "unknown type": json.dumps(submission | {"type": "dev.dragoman.no.such"}).encode(),
        "an unknown skill": json.dumps(raw.submission("juggle", task="juggle")).encode(),
        "an unknown task": json.dumps(raw.envelope("task.get", {"taskId": "nobody"})).encode(),
        "a lease": json.dumps(
            raw.envelope("agent.lease", {"agent": "workshop", "instance": "i-2"})
        ).encode(),
        "an error about another task": json.dumps(
            raw.envelope(
                "error",
                {
                    "taskId": "nobody",
                    "error": {
                        "code": "INTERNAL",
                        "message": "m",
                        "retryable": True,
                        "sideEffects": "none",
                    },
                },
            )
        ).encode(),
        "a wrong time": json.dumps(submission | {"time": "2026-13-45T99:99:99Z"}).encode(),
        "a wrong name": json.dumps(raw.submission("echo", task="no token >")).encode(),
    }


async def test_any_bytes_on_every_subject_and_the_house_goes_on(house: House) -> None:
    direct = await house.bus.submit("hold", "direct", deadline=300)
    durable = await house.bus.submit("hold", "durable", delivery="durable", deadline=300)
    ends = [asyncio.ensure_future(task.result()) for task in (direct, durable)]
    async with house.bus.listen("news") as events:
        await fuzz(house, durable.task_id)
        await house.bus.publish("news", "arrived", "at last")
        async for event in events:
            if bytes(event.data.payload) == b'"at last"':
                break
    # What had begun before all this ends as if nothing had been.
    house.workshop.release.set()
    async with asyncio.timeout(60):
        assert [(await end).text for end in ends] == ["direct", "durable"]


async def fuzz(house: House, durable: str) -> None:
    """Send everything everywhere; after each kind of document the house is still alive."""
    await house.lives()
    await eventually(lambda: len(house.workshop.started) >= 2)
    found = {one for pattern in await house.subjects() for one in concrete(pattern)}
    subjects = sorted(found | set(concrete(f"dragoman.v1.evt.{durable}.*")))
    wanted = "rpc. skill. ask. inst. evt. live. task. dlq. due. turn. timer. bus.news."
    for part in wanted.split():
        assert any(one.startswith(f"dragoman.v1.{part}") for one in subjects), part
    for part in ("$SRV.PING", "$KV.dragoman_registry.", "_INBOX.", "$O.dragoman_artifacts."):
        assert any(one.startswith(part) for one in subjects), part
    assert f"dragoman.v1.live.{durable}.state" in subjects

    for name, body in hostile(house).items():
        for subject in subjects:
            await house.intruder.publish(subject, body)
            await house.intruder.publish(subject, body, reply="answers.here")
            # A drain that is valid would be obeyed; nothing here is.
            assert house.instance.state.value == "ready", (name, subject)
        await house.intruder.flush()
        await house.lives()

    assert house.bus.invalid_messages > 0
    for delivery in house.answers:
        document = json.loads(delivery.data) if delivery.data else {}
        if str(document.get("type", "")).startswith("dev.dragoman.error"):
            assert validate_document(delivery.data) == []
            assert document["data"]["error"]["code"] in PROTOCOL_CODES
    statistics = await house.intruder.request("$SRV.STATS.workshop", b"junk", timeout=5)
    assert json.loads(statistics.data)["endpoints"][0]["data"]["invalid"] > 0


async def test_every_request_that_is_no_message_is_answered_by_one_error(house: House) -> None:
    junk = {name: body for name, body in hostile(house).items() if name not in VALID}
    subjects = [
        one
        for pattern in await house.subjects()
        if re.match(r"dragoman\.v1\.(rpc|skill|ask|inst)\.", pattern)
        for one in concrete(pattern)
    ]
    assert len(subjects) == 1 + 2 * len(house.workshop.agent.skills) + 9
    before = house.instance.totals.invalid
    for subject in subjects:
        for name, body in junk.items():
            try:
                answer = await house.intruder.request(subject, body, timeout=5)
            except DragomanError as error:
                raise AssertionError(f"{name} on {subject}: {error}") from error
            assert validate_document(answer.data) == []
            document = json.loads(answer.data)
            assert document["type"] == "dev.dragoman.error", (name, subject, document)
            assert document["data"]["error"]["code"] in PROTOCOL_CODES
            assert document["data"]["error"]["sideEffects"] == "none"
    assert house.instance.totals.invalid == before + len(subjects) * len(junk)
