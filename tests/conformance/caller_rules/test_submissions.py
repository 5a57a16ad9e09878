"""What a caller sends to begin a task, where it sends it, and when it sends it again."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from dragoman_bus import Bus
from dragoman_bus.protocol.a2a import Message, Role, text_part
from dragoman_bus.protocol.errors import (
    DragomanError,
    InvalidInput,
    Overloaded,
    PayloadTooLarge,
    TaskRejected,
)
from dragoman_bus.protocol.payloads import Cost
from dragoman_bus.transports.port import Handler, Subscription, Transport
from tests.conformance.caller_rules.documents import INPUT_REQUIRED
from tests.conformance.caller_rules.raw_agent import RawAgent
from tests.conftest import MAX_PAYLOAD, MakeTransport
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


class Recording:
    """A transport that writes down the order of what is asked of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.steps: list[tuple[str, str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        subscription = await self._transport.subscribe(subject, handler, queue=queue)
        self.steps.append(("subscribed", subject, ""))
        return subscription

    async def publish(self, subject: str, data: bytes, *, reply: str = "", **rest: Any) -> None:
        self.steps.append(("published", subject, reply))
        await self._transport.publish(subject, data, reply=reply, **rest)


async def answered(bus: Bus, raw: RawAgent, /, **options: Any) -> dict[str, Any]:
    """Submit, answer, and return the submission's data."""
    task = await bus.submit("work", "hello", **options)
    request = await raw.expect("task.submit")
    await raw.send(request.reply, raw.final(request.task, 1, "done"))
    await asyncio.wait_for(task.result(), 10)
    return request.data


async def test_a_caller_listens_by_one_subscription_before_it_submits_anything(
    agent: RawAgent, make_transport: MakeTransport
) -> None:
    recording = Recording(await make_transport())
    async with Bus(recording) as bus:  # type: ignore[arg-type]
        for _ in range(3):
            await answered(bus, agent)

    kinds = [step[0] for step in recording.steps]
    assert kinds == ["subscribed", "published", "published", "published"]
    listened = recording.steps[0][1]
    replies = [step[2] for step in recording.steps[1:]]
    assert listened.endswith(".*")
    assert len(set(replies)) == 3
    assert {reply.rpartition(".")[0] for reply in replies} == {listened.removesuffix(".*")}


async def test_a_task_goes_to_the_subject_of_its_skill_its_agent_or_its_instance(
    bus: Bus, agent: RawAgent
) -> None:
    for options in ({}, {"agent": "raw"}, {"instance": "raw-1"}):
        await answered(bus, agent, **options)

    submitted = agent.sent("task.submit")
    assert [request.subject for request in submitted] == [
        "dragoman.v1.skill.work",
        "dragoman.v1.rpc.raw",
        "dragoman.v1.inst.raw-1.submit",
    ]
    assert all(request.data["skill"] == "work" and request.reply for request in submitted)


async def test_every_task_has_an_id_of_its_own_a_deadline_and_direct_delivery(
    bus: Bus, agent: RawAgent
) -> None:
    sent = [await answered(bus, agent) for _ in range(3)]

    assert len({data["taskId"] for data in sent}) == 3
    for data in sent:
        deadline = datetime.fromisoformat(data["limits"]["deadline"])
        assert timedelta(0) < deadline - datetime.now(deadline.tzinfo) <= timedelta(minutes=10)
        assert data.get("delivery", "direct") == "direct"


async def test_limits_travel_as_they_are_given(bus: Bus, agent: RawAgent) -> None:
    cost = Cost(amount=0.5, currency="EUR")
    data = await answered(bus, agent, max_tokens=10, max_cost=cost, max_hops=2, context_id="c")

    limits = {key: value for key, value in data["limits"].items() if key != "deadline"}
    assert limits == {
        "maxTokens": 10,
        "maxCost": {"amount": 0.5, "currency": "EUR"},
        "maxHops": 2,
    }
    assert data["contextId"] == "c"


def message(**members: Any) -> Message:
    return Message(**{"message_id": "m", "role": Role.USER, "parts": [text_part("x")], **members})


async def test_a_message_of_ones_own_belongs_to_the_task_or_is_refused(
    bus: Bus, agent: RawAgent
) -> None:
    mine = message(task_id="t-1", context_id="c-1")
    task = await bus.submit("work", mine, task_id="t-1")
    request = await agent.expect("task.submit")
    await agent.send(request.reply, agent.final("t-1", 1, "done"))
    await asyncio.wait_for(task.result(), 10)

    assert request.data["contextId"] == request.data["message"]["contextId"] == "c-1"
    for wrong, options in (
        (message(task_id="t-1"), {"task_id": "t-2"}),
        (message(task_id="t-1"), {}),
        (message(context_id="c-1"), {"context_id": "c-2"}),
        (message(role=Role.AGENT), {}),
    ):
        with pytest.raises(InvalidInput):
            await bus.submit("work", wrong, **options)
    assert len(agent.requests) == 1


async def test_a_reply_belongs_to_the_task_or_is_refused(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(request.reply, agent.status(request.task, 1, INPUT_REQUIRED, "which?"))
    await eventually(lambda: task.question)
    for wrong in (message(task_id="other"), message(context_id="other"), message(role=Role.AGENT)):
        with pytest.raises(InvalidInput):
            await task.reply(wrong)

    replying = asyncio.ensure_future(task.reply(message(task_id=task.task_id)))
    reply = await agent.expect("task.reply")
    await agent.send(reply.reply, agent.snapshot(request.task, 1, state=INPUT_REQUIRED))
    await asyncio.wait_for(replying, 10)
    assert reply.data["message"]["role"] == "ROLE_USER"


async def test_a_request_larger_than_the_server_takes_is_not_sent(
    bus: Bus, agent: RawAgent
) -> None:
    with pytest.raises(PayloadTooLarge) as refused:
        await bus.submit("work", "x" * MAX_PAYLOAD)

    assert refused.value.code == "PAYLOAD_TOO_LARGE"
    await bus.transport.flush()
    await agent.transport.flush()
    assert agent.requests == []


REFUSALS: list[tuple[dict[str, Any], bool]] = [
    ({"code": "OVERLOADED", "retryable": True}, True),
    ({"code": "DRAINING", "retryable": True}, True),
    ({"code": "COM_EXAMPLE_BUSY", "retryable": True}, True),
    ({"code": "OVERLOADED", "retryable": False}, False),
    ({"code": "OVERLOADED", "retryable": True, "sideEffects": "possible"}, False),
    ({"code": "OVERLOADED", "retryable": True, "sideEffects": "committed"}, False),
    ({"code": "COM_EXAMPLE_BUSY", "retryable": False}, False),
    ({"code": "INVALID_INPUT", "retryable": False}, False),
]


@pytest.mark.parametrize(("refusal", "again"), REFUSALS, ids=str)
async def test_what_a_refusal_says_and_not_its_code_decides_whether_it_is_tried_again(
    bus: Bus, agent: RawAgent, refusal: dict[str, Any], again: bool
) -> None:
    task = await bus.submit("work", "hello")
    first = await agent.expect("task.submit")
    error = agent.error(task=first.task, retryAfterSeconds=0.01, **refusal)
    await agent.send(first.reply, error)
    if again:
        second = await agent.expect("task.submit")
        await agent.send(second.reply, agent.final(second.task, 1, "second time"))
        assert (await asyncio.wait_for(task.result(), 10)).text == "second time"
        assert second.data == first.data
    else:
        with pytest.raises((TaskRejected, Overloaded)) as refused:
            await asyncio.wait_for(task.result(), 10)
        assert refused.value.code == refusal["code"]
        assert refused.value.retryable is refusal["retryable"]
        assert refused.value.side_effects == refusal.get("sideEffects", "none")
        assert len(agent.requests) == 1


async def test_a_caller_waits_at_least_as_long_as_it_was_told(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    pauses = []
    for _ in range(2):
        told_at = time.monotonic()
        busy = agent.error("OVERLOADED", request.task, retryable=True, retryAfterSeconds=0.1)
        await agent.send(request.reply, busy)
        request = await agent.expect("task.submit")
        pauses.append(time.monotonic() - told_at)
    await agent.send(request.reply, agent.final(request.task, 1, "at last"))
    assert (await asyncio.wait_for(task.result(), 10)).text == "at last"

    assert min(pauses) >= 0.1
    assert pauses[0] != pauses[1]


async def test_a_version_that_is_not_spoken_here_is_not_tried_again(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    refusal = agent.error(
        "UNSUPPORTED_VERSION", request.task, retryable=True, supportedVersions=["2.0", "3.1"]
    )
    await agent.send(request.reply, refusal)

    with pytest.raises(TaskRejected) as refused:
        await asyncio.wait_for(task.result(), 10)
    assert refused.value.code == "UNSUPPORTED_VERSION"
    assert refused.value.details["supportedVersions"] == ["2.0", "3.1"]
    assert len(agent.requests) == 1


async def test_once_an_instance_has_the_task_no_other_is_asked(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    busy = agent.error("OVERLOADED", request.task, retryable=True, retryAfterSeconds=0.01)
    await agent.send(request.reply, agent.status(request.task, 1), busy)

    with pytest.raises(DragomanError):
        await asyncio.wait_for(task.result(), 10)
    later = await answered(bus, agent)
    shared = [made for made in agent.sent("task.submit") if made.task == request.task]
    assert len(shared) == 1
    assert later["taskId"] != request.task


async def test_the_same_task_again_may_be_answered_by_its_final_alone(
    bus: Bus, agent: RawAgent
) -> None:
    for _ in range(2):
        task = await bus.submit("work", "hello", task_id="once")
        request = await agent.expect("task.submit")
        await agent.send(request.reply, agent.final("once", 1, "as before"))
        assert (await asyncio.wait_for(task.result(), 10)).text == "as before"
