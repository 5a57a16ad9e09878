"""How a durable task is submitted, canceled, answered, ordered and read, as the server sees it."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from typing import Any

import msgspec
import pytest

from dragoman_agents import Agent, serving
from dragoman_bus import Bus
from dragoman_bus.client import log_reader
from dragoman_bus.protocol.a2a import Message, TaskState
from dragoman_bus.protocol.errors import DragomanError, Overloaded, TaskRejected
from dragoman_bus.transports.port import Delivery, Handler, Subscription, Transport
from tests.conformance.durable_rules.house import House
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
PATTERN = "Nats-Expected-Last-Subject-Sequence-Subject"


def shouting() -> Agent:
    agent = Agent("shouter")

    @agent.skill
    async def shout(text: str) -> str:
        return text.upper()

    return agent


@pytest.mark.parametrize("task_id", [None, "chosen-1"], ids=["fresh id", "chosen id"])
async def test_a_submission_is_a_timer_a_log_entry_and_a_queue_message_in_this_order(
    house: House, task_id: str | None
) -> None:
    await house.queues("shout")
    bus = await house.bus()
    task = await bus.submit("shout", "x", delivery="durable", task_id=task_id, deadline=60)
    await eventually(lambda: house.sent(r"dragoman\.v1\.task\..*"))

    sent = [one for one in house.heard if one.subject.startswith("dragoman.v1.")]
    sent = [one for one in sent if ".live." not in one.subject]
    assert [one.subject for one in sent] == [
        f"dragoman.v1.timer.{task.task_id}.deadline",
        f"dragoman.v1.evt.{task.task_id}.submit",
        "dragoman.v1.task.shout.interactive",
    ]
    timer, entry, queued = [one.headers or {} for one in sent]
    assert timer["Nats-Schedule-Target"] == f"dragoman.v1.due.{task.task_id}"
    assert entry[EXPECTED] == "0"
    assert queued["Nats-Msg-Id"] == task.task_id
    assert 50 <= int(queued["Nats-TTL"].rstrip("s")) <= 60
    assert sent[1].data == sent[2].data
    data = json.loads(sent[1].data)["data"]
    assert (data["delivery"], data["taskId"]) == ("durable", task.task_id)
    assert datetime.fromisoformat(data["limits"]["deadline"])


async def test_a_deadline_lies_within_the_age_of_the_log(house: House) -> None:
    await house.queues("shout")
    bus = await house.bus()

    with pytest.raises(DragomanError, match="7 days") as refused:
        await bus.submit("shout", "x", delivery="durable", deadline=8 * 86400)
    assert refused.value.side_effects == "none"
    await bus.transport.flush()
    await house.hear()
    assert house.sent(r"dragoman\.v1\..*") == []


async def test_a_submission_whose_queue_message_was_never_sent_is_completed(house: House) -> None:
    await house.serve(shouting())
    document = house.submission("half", "shout", "x")
    await house.store("half", "submit", document, expect=0)
    bus = await house.bus()
    message = document["data"]["message"]

    task = await bus.submit("shout", as_message(message), delivery="durable", task_id="half")

    assert (await asyncio.wait_for(task.result(), 20)).text == "X"
    await house.hear()
    queued = len(house.sent(r"dragoman\.v1\.task\..*"))
    again = await bus.submit("shout", as_message(message), delivery="durable", task_id="half")
    assert (await again.result()).text == "X"
    with pytest.raises(TaskRejected, match="TASK_CONFLICT"):
        await bus.submit("shout", "other", delivery="durable", task_id="half")
    await bus.transport.flush()
    # The spine has an entry, or the content is another: nothing is queued.
    await house.hear()
    assert len(house.sent(r"dragoman\.v1\.task\..*")) == queued


def as_message(document: dict[str, Any]) -> Message:
    return msgspec.json.decode(json.dumps(document), type=Message)


async def test_a_full_queue_is_overloaded_left_alone_and_the_task_withdrawn(house: House) -> None:
    await house.start(msgspec.structs.replace(house.settings, queue_tasks=1))
    await house.queues("shout")
    bus = await house.bus()
    await bus.submit("shout", "first", delivery="durable")

    for _ in range(2):
        with pytest.raises(Overloaded):
            await bus.submit("shout", "second", delivery="durable", retries=0)
    await bus.transport.flush()
    await house.witness.flush()

    # The second refusal was made here: the queue was full a moment ago.
    await house.hear()
    queued = {one.data for one in house.sent(r"dragoman\.v1\.task\..*")}
    assert len(queued) == 2
    refused = [json.loads(data)["data"] for data in queued]
    (late,) = [data for data in refused if data["message"]["parts"] == [{"text": "second"}]]
    final = await house.ended(late["taskId"])
    assert (final.state, final.data["error"]["code"]) == ("REJECTED", "OVERLOADED")
    await house.hear()
    (headers,) = [headers for _, headers in house.sent_to(late["taskId"], "state")][:1]
    assert (headers[EXPECTED], headers.get(PATTERN)) == ("0", None)


async def test_a_reply_is_stored_only_while_the_task_asks(house: House) -> None:
    await house.submit("asked", "greet", "hi")
    await house.store("asked", "state", house.ghost.status("asked", 1), expect=0)
    bus = await house.bus()
    task = bus.durable.task("asked")
    with pytest.raises(TaskRejected, match="TASK_NOT_WAITING"):
        await task.reply("too early")
    question = house.ghost.status("asked", 2, "TASK_STATE_INPUT_REQUIRED", "which?")
    position = await house.store("asked", "state", question)

    await task.reply("this one")

    await house.hear()
    ((document, headers),) = house.sent_to("asked", "control")
    assert document["type"] == "dev.dragoman.task.reply"
    assert (headers[EXPECTED], headers[PATTERN]) == (str(position), "dragoman.v1.evt.asked.*")
    with pytest.raises(TaskRejected, match="TASK_NOT_WAITING"):
        await task.reply("once more")
    assert len(await house.log("asked", "control")) == 1


async def test_a_cancel_is_stored_in_the_log(house: House) -> None:
    await house.submit("unwanted", "shout", "x")
    await house.supervisor()
    bus = await house.bus()

    assert await bus.durable.task("unwanted").cancel("enough") is TaskState.CANCELED

    (wish,) = await house.log("unwanted", "control")
    assert (wish.type, wish.data["reason"]) == ("task.cancel", "enough")


async def test_an_ordered_task_is_stored_with_its_turn_and_not_queued_by_its_caller(
    house: House,
) -> None:
    await house.queues("shout")
    bus = await house.bus()
    task = await bus.submit("shout", "x", delivery="durable", context_id="c", ordered=True)
    turn = f"dragoman.v1.turn.c.{task.task_id}"
    await eventually(lambda: house.sent(turn.replace(".", r"\.")))
    await bus.transport.flush()

    both = [
        (one.headers or {})["Nats-Batch-Id"]
        for one in house.heard
        if one.subject in (turn, f"dragoman.v1.evt.{task.task_id}.submit")
    ]
    assert len(both) == 2
    assert len(set(both)) == 1
    await house.hear()
    assert house.sent(r"dragoman\.v1\.task\..*") == []
    document = json.loads(house.sent(turn.replace(".", r"\."))[0].data)
    assert document["type"] == "dev.dragoman.task.get"


class Lossy:
    """A connection on which some of what a reader would hear never arrives."""

    def __init__(self, transport: Transport, lost: float) -> None:
        self._transport = transport
        self._every = lost
        self._count = 0.0
        self.subjects: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def subscribe(self, subject: str, handler: Handler, **options: Any) -> Subscription:
        self.subjects.append(subject)

        def take(delivery: Delivery) -> None:
            if ".live." in delivery.subject:
                self._count += self._every
                if self._count >= 1:
                    self._count -= 1
                    return
            handler(delivery)

        return await self._transport.subscribe(subject, take, **options)


@pytest.mark.parametrize("lost", [0.0, 0.4, 1.0])
async def test_a_reader_gets_the_whole_log_in_order_however_much_it_does_not_hear(
    house: House, lost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_reader.SILENCE_SECONDS <= 10
    monkeypatch.setattr(log_reader, "SILENCE_SECONDS", 0.5)
    await house.submit("read", "recite", "x")
    lossy: Any = Lossy(await house.connect(), lost)
    async with Bus(lossy) as bus:
        task = bus.durable.task("read")
        told: list[str] = []

        async def follow() -> None:
            async for update in task:
                artifact = getattr(update, "artifact", None)
                told.extend(str(piece.text) for piece in getattr(artifact, "parts", ()))

        following = asyncio.ensure_future(follow())
        await eventually(lambda: any(".live.read." in one for one in lossy.subjects))
        await house.store("read", "state", house.ghost.status("read", 1), expect=0)
        for number in range(20):
            chunk = house.ghost.chunk("read", number + 2, f"{number} ", append=number > 0)
            await house.store("read", "update", chunk)
        await house.store("read", "state", house.ghost.final("read", 22))
        # Whatever a zombie still writes is after the end, and says nothing.
        await house.store("read", "update", house.ghost.chunk("read", 23, "too late"))
        await asyncio.wait_for(following, 20)

        assert told == [f"{number} " for number in range(20)]
        assert (await task.result()).text == "".join(told)
        assert task.state is TaskState.COMPLETED
    # What is only on its way to being stored is not listened to.
    assert not any(".evt." in subject for subject in lossy.subjects)


async def test_neither_agent_nor_caller_makes_a_stream_or_a_queue(house: House) -> None:
    await house.queues("shout", agent="shouter")
    made: list[str] = []

    def note(delivery: Delivery) -> None:
        verbs = r"\$JS\.API\.(STREAM|CONSUMER)\.(CREATE|UPDATE|DELETE|PURGE|DURABLE\.CREATE)\."
        if re.match(verbs + "DRAGOMAN_", delivery.subject):
            made.append(delivery.subject)

    await house.witness.subscribe("$JS.API.>", note)
    await house.witness.flush()
    async with serving(shouting(), await house.connect(), ack_wait=2.0, grace_seconds=0.2):
        bus = await house.bus()
        for _ in range(3):
            assert (await bus.ask("shout", "x", delivery="durable")).text == "X"
        assert [task.skill async for task in bus.durable.tasks()] == ["shout"] * 3
    await house.witness.flush()
    assert made == []
