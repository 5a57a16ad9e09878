"""A bus whose every message is heard, and whose log and queues a test may write by hand."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from dragoman_agents import Agent, serving
from dragoman_bus import Bus
from dragoman_bus.durable import DurableSettings
from dragoman_bus.durable.layout import (
    LOG_STREAM,
    QUEUE_STREAM,
    agent_queue_settings,
    make_streams,
    skill_queue_settings,
)
from dragoman_bus.server import NatsServer
from dragoman_bus.service import Instance
from dragoman_bus.supervisor import Supervisor, supervising
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.port import Delivery
from dragoman_bus.transports.streams import Expectation, Record
from dragoman_bus.validation import validate_document
from tests.conformance.caller_rules.documents import Documents, part
from tests.support.waiting import eventually

__all__ = ["Entry", "House", "in_seconds"]

SETTINGS = DurableSettings(
    ack_wait=2.0, in_memory=True, log_bytes=2**24, queue_bytes=2**22, artifact_bytes=2**22
)


class Entry(NamedTuple):
    """One entry of a log as it is stored."""

    kind: str
    position: int
    document: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """The body."""
        data: dict[str, Any] = self.document["data"]
        return data

    @property
    def type(self) -> str:
        """The type without its prefix."""
        return str(self.document["type"]).removeprefix("dev.dragoman.")

    @property
    def state(self) -> str:
        """The state that it tells, without its prefix."""
        status = self.data.get("statusUpdate", {}).get("status", {})
        return str(status.get("state", "")).removeprefix("TASK_STATE_")


def in_seconds(seconds: float) -> str:
    """A deadline."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class House:
    """Everything on one server; ``ghost`` makes the documents of a worker that is not there."""

    def __init__(self, server: NatsServer, stack: AsyncExitStack) -> None:
        self.server = server
        self.stack = stack
        self.heard: list[Delivery] = []
        self.ghost = Documents("ghost", "ghost-1")
        self.witness: NatsTransport

    async def start(self, settings: DurableSettings = SETTINGS) -> House:
        """Make the streams, and begin to hear."""
        self.settings = settings
        self.witness = await self.connect()
        await make_streams(self.witness.streams(), settings)
        for subject in ("dragoman.v1.>", "$JS.ACK.>", "$JS.API.CONSUMER.MSG.NEXT.>"):
            await self.witness.subscribe(subject, self.heard.append)
        return self

    async def connect(self) -> NatsTransport:
        """Another connection."""
        transport = await NatsTransport.connect(NatsOptions.from_url(self.server.url))
        self.stack.push_async_callback(transport.close)
        return transport

    async def bus(self) -> Bus:
        """A caller."""
        return await self.stack.enter_async_context(Bus(await self.connect()))

    async def supervisor(self, **options: Any) -> Supervisor:
        """A supervisor that acts."""
        made = supervising(await self.connect(), self.settings, **options)
        supervisor = await self.stack.enter_async_context(made)
        await eventually(lambda: supervisor.acts)
        return supervisor

    async def queues(self, *skills: str, agent: str = "") -> None:
        """Make queues by hand, where no supervisor does."""
        for skill in skills:
            for queue in skill_queue_settings(skill, self.settings):
                await self.witness.streams().ensure_queue(QUEUE_STREAM, queue)
        if agent:
            queue = agent_queue_settings(agent, self.settings)
            await self.witness.streams().ensure_queue(QUEUE_STREAM, queue)

    async def serve(self, agent: Agent) -> Instance:
        """A worker."""
        await self.queues(*agent.skills, agent=agent.name)
        served = serving(agent, await self.connect(), ack_wait=2.0, grace_seconds=0.2)
        return await self.stack.enter_async_context(served)

    async def log(self, task: str, pattern: str = "*") -> list[Entry]:
        """What is stored of a task, in order; every entry is valid."""
        streams = self.witness.streams()
        page = await streams.read(LOG_STREAM, f"dragoman.v1.evt.{task}.{pattern}")
        for stored in page.messages:
            assert validate_document(stored.data) == [], stored
        return [
            Entry(stored.subject.rpartition(".")[2], stored.position, json.loads(stored.data))
            for stored in page.messages
        ]

    async def spine(self, task: str) -> list[Entry]:
        """The entries that decide."""
        return await self.log(task, "state")

    async def ended(self, task: str) -> Entry:
        """The final, as soon as it is stored."""

        async def has_final() -> bool:
            return any(entry.type == "task.final" for entry in await self.log(task, "state"))

        await eventually(has_final, 30)
        (final,) = [entry for entry in await self.spine(task) if entry.type == "task.final"]
        return final

    async def store(
        self, task: str, kind: str, document: dict[str, Any], *, expect: int | None = None
    ) -> int:
        """Write an entry by hand; its position."""
        subject = f"dragoman.v1.evt.{task}.{kind}"
        assert validate_document(json.dumps(document)) == []
        expectation = None if expect is None else Expectation(subject, expect)
        record = Record(subject=subject, data=json.dumps(document).encode(), expect=expectation)
        return await self.witness.streams().append(LOG_STREAM, record)

    def submission(self, task: str, skill: str, content: Any, **members: Any) -> dict[str, Any]:
        """A durable ``task.submit``."""
        message = {"messageId": f"{task}-m", "role": "ROLE_USER", "parts": [part(content)]}
        data = {
            "taskId": task,
            "skill": skill,
            "message": message,
            "delivery": "durable",
            "limits": {"deadline": in_seconds(120)},
            **members,
        }
        return self.ghost.envelope("task.submit", data, source="/clients/raw")

    async def submit(self, task: str, skill: str, content: Any, **members: Any) -> None:
        """Store a submission and queue it, by hand."""
        document = self.submission(task, skill, content, **members)
        await self.store(task, "submit", document, expect=0)
        await self.enqueue(task, document)

    async def enqueue(self, task: str, document: dict[str, Any], *, queue: str = "") -> None:
        """Put a submission into its queue, or into that of another skill."""
        subject = f"dragoman.v1.task.{queue or document['data']['skill']}.interactive"
        record = Record(subject=subject, data=json.dumps(document).encode(), identity=task)
        await self.witness.streams().append(QUEUE_STREAM, record)

    async def take(self, skill: str, settle: bytes | None = None) -> None:
        """Take a message from a queue by hand; settle it so, or never be heard of again."""
        taken: asyncio.Queue[Delivery] = asyncio.Queue()
        inbox = self.witness.new_inbox()
        subscription = await self.witness.subscribe(inbox, taken.put_nowait)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.DRAGOMAN_QUEUE.skill-{skill}-interactive"
        body = json.dumps({"batch": 1, "expires": 10_000_000_000}).encode()
        await self.witness.publish(subject, body, reply=inbox)
        delivery = await asyncio.wait_for(taken.get(), 15)
        assert json.loads(delivery.data)["type"] == "dev.dragoman.task.submit"
        if settle is not None:
            await self.witness.publish(delivery.reply, settle)
        await subscription.unsubscribe()

    async def hear(self) -> None:
        """Have heard whatever was stored before: it was on its way to the witness, too."""
        await self.witness.flush()

    def sent(self, pattern: str) -> list[Delivery]:
        """What was published on subjects that match, in order."""
        return [one for one in self.heard if re.fullmatch(pattern, one.subject)]

    def sent_to(self, task: str, kind: str = "[a-z]+") -> list[tuple[dict[str, Any], Any]]:
        """Document and headers of what was published on a task's log."""
        found = self.sent(rf"dragoman\.v1\.evt\.{task}\.{kind}")
        return [(json.loads(one.data), one.headers or {}) for one in found]
