"""The caller's side of a task, against an agent that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dragoman_bus.client import Bus, TaskHandle
from dragoman_bus.client import conversation as conversation_module
from dragoman_bus.protocol.a2a import (
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
)
from dragoman_bus.protocol.contracts import make_contract, text_of
from dragoman_bus.protocol.errors import (
    AgentLost,
    AgentUnavailable,
    BusUnavailable,
    DeadlineExceeded,
    FlowExceeded,
    InvalidInput,
    LocalError,
    NotConfigured,
    Overloaded,
    ProtocolError,
    TaskCanceled,
    TaskFailed,
    TaskRejected,
)
from dragoman_bus.protocol.messages import (
    TaskCancel,
    TaskFlow,
    TaskReply,
    TaskSubmit,
    TaskSubscribe,
)
from dragoman_bus.protocol.payloads import ErrorObject, Usage
from dragoman_bus.transports.memory import MemoryBroker
from tests.support.scripted_agent import ScriptedAgent

pytestmark = pytest.mark.anyio

WORKING = TaskState.WORKING


@pytest.fixture
async def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def agent(broker: MemoryBroker) -> ScriptedAgent:
    return await ScriptedAgent(broker.connect()).start()


@pytest.fixture
async def bus(broker: MemoryBroker) -> AsyncIterator[Bus]:
    async with Bus(broker.connect(), owns_transport=True) as caller:
        yield caller


async def texts(task: TaskHandle) -> list[str]:
    return [
        text_of(update.artifact.parts, separator="") or ""
        async for update in task
        if isinstance(update, TaskArtifactUpdateEvent)
    ]


async def test_a_short_task_is_one_request_and_one_final(bus: Bus, agent: ScriptedAgent) -> None:
    task = await bus.submit("work", "hello")
    request, delivery = await agent.expect(TaskSubmit)
    await agent.send(
        delivery.reply, agent.final(task.task_id, 1, "done", usage=Usage(input_tokens=2))
    )

    result = await task.result()

    assert request.data.task_id == task.task_id
    assert request.data.flow_window is not None
    assert result.text == result.value == "done"
    assert result.usage == Usage(input_tokens=2)
    assert (task.agent, task.instance) == (agent.name, agent.instance)
    assert bus.in_flight == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delivery": "Durable"}, "'direct' or 'durable', not 'Durable'"),
        ({"ordered": True}, "delivery='durable'"),
        ({"maximum_attempts": 3}, "delivery='durable'"),
        ({"deadline": None}, "number of seconds, not None"),
        ({"deadline": float("inf")}, "number of seconds, not inf"),
        ({"deadline": float("nan")}, "number of seconds, not nan"),
    ],
)
async def test_what_would_be_promised_in_vain_is_refused(
    bus: Bus, agent: ScriptedAgent, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        await bus.ask("echo", "hello", **options)
    assert agent.received.empty()
    assert bus.in_flight == 0


def test_an_error_does_not_advise_what_its_message_has_said() -> None:
    said = BusUnavailable("nobody is there; start one with `dragoman up`")
    assert str(said) == "BUS_UNAVAILABLE: nobody is there; start one with `dragoman up`."
    plain = NotConfigured("write `x = 1`")
    assert (plain.advice, str(plain)) == ("", "NOT_CONFIGURED: write `x = 1`.")
    assert str(AgentUnavailable("nobody")).endswith("`dragoman ls` shows who is there.")


async def test_a_bus_that_is_not_open_says_so_instead_of_waiting_for_ever(
    broker: MemoryBroker, agent: ScriptedAgent
) -> None:
    bus = Bus(broker.connect())
    with pytest.raises(BusUnavailable, match="not open"):
        await bus.submit("echo", "hello", deadline=5)
    async with bus:
        pass
    with pytest.raises(BusUnavailable, match="not open"):
        await bus.submit("echo", "hello", deadline=5)
    assert agent.received.empty()
    assert bus.in_flight == 0


async def test_updates_come_in_order_and_end_with_the_terminal_status(
    bus: Bus, agent: ScriptedAgent
) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.status(task.task_id, 1, WORKING))
    await agent.send(delivery.reply, agent.chunk(task.task_id, 3, "b"))
    await agent.send(delivery.reply, agent.chunk(task.task_id, 2, "a"))
    await agent.send(delivery.reply, agent.final(task.task_id, 4))

    updates = [update async for update in task]

    assert [type(update) for update in updates] == [
        TaskStatusUpdateEvent,
        TaskArtifactUpdateEvent,
        TaskArtifactUpdateEvent,
        TaskStatusUpdateEvent,
    ]
    assert (await task.result()).text == "ab"


async def test_nobody_serving_is_an_immediate_clear_error(bus: Bus) -> None:
    task = await bus.submit("nobody-does-this", "hello")

    with pytest.raises(AgentUnavailable, match="nobody-does-this"):
        await asyncio.wait_for(task.result(), 1)


async def test_a_gap_is_closed_by_a_snapshot_without_losing_or_repeating_text(
    bus: Bus, agent: ScriptedAgent
) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.chunk(task.task_id, 1, "a"))
    await agent.send(delivery.reply, agent.chunk(task.task_id, 4, "d"))

    subscribe, probe = await agent.expect(TaskSubscribe)
    assert subscribe.data.after == 1
    await agent.send(probe.reply, agent.snapshot(task.task_id, 3, ["a", "b", "c"]))
    await agent.send(probe.reply, agent.final(task.task_id, 5))

    assert "".join(await texts(task)) == "abcd"
    assert (await task.result()).text == "abcd"


async def test_a_terminal_snapshot_ends_the_stream(bus: Bus, agent: ScriptedAgent) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    snapshot = agent.snapshot(task.task_id, 9, ["all"], TaskState.COMPLETED)
    await agent.send(delivery.reply, snapshot)

    assert (await task.result()).text == "all"


async def test_a_silent_agent_that_left_the_bus_is_lost(
    bus: Bus, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "SILENCE_GRACE_SECONDS", 0.05)
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.status(task.task_id, 1, WORKING, keep_alive_seconds=0.1))
    await agent.vanish()

    with pytest.raises(AgentLost, match="has left the bus") as lost:
        await asyncio.wait_for(task.result(), 5)
    assert lost.value.retryable
    assert lost.value.side_effects == "possible"


async def test_an_agent_that_answers_the_probe_is_not_lost(
    bus: Bus, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "SILENCE_GRACE_SECONDS", 0.05)
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.status(task.task_id, 1, WORKING, keep_alive_seconds=0.1))

    _, probe = await agent.expect(TaskSubscribe)
    await agent.send(probe.reply, agent.snapshot(task.task_id, 1, []))
    await agent.send(probe.reply, agent.final(task.task_id, 2, "late but true"))

    assert (await task.result()).text == "late but true"


async def test_an_agent_that_never_says_a_word_is_given_up(
    bus: Bus, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "ACCEPT_SECONDS", 0.1)
    task = await bus.submit("work", "hello")

    with pytest.raises(AgentLost, match="nothing came back"):
        await asyncio.wait_for(task.result(), 5)


async def test_the_deadline_ends_the_wait_and_tells_the_agent(
    bus: Bus, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "DEADLINE_GRACE_SECONDS", 0.0)
    task = await bus.submit("work", "hello", deadline=0.2)
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.status(task.task_id, 1, WORKING))

    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(task.result(), 5)
    canceled, _ = await agent.expect(TaskCancel)
    assert canceled.data.task_id == task.task_id


async def test_a_refusal_for_lack_of_capacity_is_tried_again(
    bus: Bus, agent: ScriptedAgent
) -> None:
    task = await bus.submit("work", "hello")
    for _ in range(2):
        _, delivery = await agent.expect(TaskSubmit)
        await agent.send(
            delivery.reply, agent.error("OVERLOADED", task.task_id, retry_after_seconds=0.01)
        )
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.final(task.task_id, 1, "third time"))

    assert (await task.result()).text == "third time"


async def test_capacity_that_does_not_come_is_a_typed_error(bus: Bus, agent: ScriptedAgent) -> None:
    task = await bus.submit("work", "hello", retries=0)
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.error("OVERLOADED", task.task_id, retry_after_seconds=7))

    with pytest.raises(Overloaded) as refused:
        await task.result()
    assert refused.value.retryable
    assert refused.value.retry_after == 7


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (TaskState.FAILED, TaskFailed),
        (TaskState.CANCELED, TaskCanceled),
        (TaskState.REJECTED, TaskRejected),
    ],
)
async def test_a_task_that_ends_badly_raises_its_error(
    bus: Bus, agent: ScriptedAgent, state: TaskState, kind: type[Exception]
) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    error = ErrorObject(
        code="SKILL_FAILED", message="it broke", retryable=False, side_effects="possible"
    )
    await agent.send(delivery.reply, agent.final(task.task_id, 1, state=state, error=error))

    assert [update.status.state async for update in task] == [state]  # type: ignore[union-attr]
    with pytest.raises(kind, match="it broke"):
        await task.result()


async def test_any_other_refusal_is_a_rejection_with_its_code(
    bus: Bus, agent: ScriptedAgent
) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(
        delivery.reply, agent.error("CONTRACT_MISMATCH", task.task_id, retryable=False)
    )

    with pytest.raises(TaskRejected) as refused:
        await task.result()
    assert refused.value.code == "CONTRACT_MISMATCH"
    assert not refused.value.retryable


async def test_cancel_waits_for_the_terminal_state(bus: Bus, agent: ScriptedAgent) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    canceling = asyncio.create_task(task.cancel("enough"))
    await agent.send(delivery.reply, agent.status(task.task_id, 1, WORKING))
    request, cancel = await agent.expect(TaskCancel)
    assert request.data.reason == "enough"
    await agent.send(cancel.reply, agent.snapshot(task.task_id, 1, []))
    assert not canceling.done()
    await agent.send(delivery.reply, agent.final(task.task_id, 2, state=TaskState.CANCELED))

    assert await canceling is TaskState.CANCELED


async def test_cancelling_the_awaiting_caller_cancels_the_task(
    bus: Bus, agent: ScriptedAgent
) -> None:
    asking = asyncio.create_task(bus.ask("work", "hello"))
    request, delivery = await agent.expect(TaskSubmit)
    task_id = request.data.task_id
    await agent.send(delivery.reply, agent.status(task_id, 1, WORKING))
    await agent.transport.flush()
    await bus.transport.flush()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    canceled, _ = await agent.expect(TaskCancel)
    assert canceled.data.task_id == task_id


async def test_a_question_is_answered_by_a_reply(bus: Bus, agent: ScriptedAgent) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    question = agent.status(task.task_id, 1, TaskState.INPUT_REQUIRED, "which language?")
    await agent.send(delivery.reply, question)

    with pytest.raises(LocalError, match="which language") as asked:
        await task.result()
    assert asked.value.code == "INPUT_REQUIRED"
    assert task.question == "which language?"

    replying = asyncio.create_task(task.reply("French"))
    request, reply = await agent.expect(TaskReply)
    assert text_of(request.data.message.parts) == "French"
    await agent.send(reply.reply, agent.snapshot(task.task_id, 1, []))
    await replying
    await agent.send(delivery.reply, agent.status(task.task_id, 2, WORKING))
    await agent.send(delivery.reply, agent.final(task.task_id, 3, "bonjour"))

    assert (await task.result()).text == "bonjour"


async def test_a_reader_of_a_long_stream_tells_how_far_it_has_read(
    bus: Bus, agent: ScriptedAgent
) -> None:
    task = await bus.submit("work", "hello", flow_window=8)
    _, delivery = await agent.expect(TaskSubmit)
    for sequence in range(1, 9):
        await agent.send(delivery.reply, agent.chunk(task.task_id, sequence, "x"))
    reading = asyncio.create_task(texts(task))
    flows = [(await agent.expect(TaskFlow))[0].data.through for _ in range(2)]
    await agent.send(delivery.reply, agent.final(task.task_id, 9))

    assert flows == [4, 8]
    assert await reading == ["x"] * 8


async def test_awaiting_only_the_result_reads_the_stream_too(
    bus: Bus, agent: ScriptedAgent
) -> None:
    task = await bus.submit("work", "hello", flow_window=8)
    _, delivery = await agent.expect(TaskSubmit)
    for sequence in range(1, 9):
        await agent.send(delivery.reply, agent.chunk(task.task_id, sequence, "x"))
    waiting = asyncio.create_task(task.result())
    await agent.expect(TaskFlow)
    await agent.send(delivery.reply, agent.final(task.task_id, 9))

    assert (await waiting).text == "x" * 8


async def test_an_agent_that_ignores_the_window_is_stopped(bus: Bus, agent: ScriptedAgent) -> None:
    task = await bus.submit("work", "hello", flow_window=4)
    _, delivery = await agent.expect(TaskSubmit)
    for sequence in range(1, 20):
        await agent.send(delivery.reply, agent.chunk(task.task_id, sequence, "x"))

    with pytest.raises(FlowExceeded):
        async for _ in task:
            pass
    await agent.expect(TaskCancel)


async def test_junk_from_an_agent_is_counted_and_survived(bus: Bus, agent: ScriptedAgent) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    for junk in (b"", b"\xff", b"{}", b"[" * 1000):
        await agent.transport.publish(delivery.reply, junk)
    await agent.send(delivery.reply, agent.final(task.task_id, 1, "fine"))

    assert (await task.result()).text == "fine"


async def test_an_update_that_the_lifecycle_forbids_is_a_protocol_error(
    bus: Bus, agent: ScriptedAgent
) -> None:
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.status(task.task_id, 1, TaskState.INPUT_REQUIRED, "q"))
    await agent.send(delivery.reply, agent.status(task.task_id, 2, TaskState.AUTH_REQUIRED, "a"))
    await agent.send(delivery.reply, agent.status(task.task_id, 3, TaskState.WORKING))
    await agent.send(delivery.reply, agent.final(task.task_id, 4, "ok"))
    await bus.transport.flush()

    assert (await task.result()).text == "ok"


async def test_input_that_breaks_the_contract_never_leaves(bus: Bus, agent: ScriptedAgent) -> None:
    contract = make_contract(
        "work",
        {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
        {"type": "string"},
    )

    with pytest.raises(InvalidInput, match="n"):
        await bus.submit("work", {"n": "three"}, contract=contract)
    assert agent.received.empty()
    assert bus.in_flight == 0


async def test_output_that_breaks_the_contract_is_found_out(bus: Bus, agent: ScriptedAgent) -> None:
    contract = make_contract("work", {"type": "object"}, {"type": "integer"})
    task = await bus.submit("work", {}, contract=contract)
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.final(task.task_id, 1, "not a number"))

    with pytest.raises(TaskFailed) as failed:
        await task.result()
    assert failed.value.code == "INVALID_OUTPUT"


@pytest.mark.parametrize("name", ["Work", "a.b", "*", ""])
async def test_names_that_are_not_tokens_are_refused_before_sending(bus: Bus, name: str) -> None:
    with pytest.raises(ProtocolError, match="lower-case"):
        await bus.submit(name, "hello")


async def test_a_client_bounds_its_open_tasks(broker: MemoryBroker, agent: ScriptedAgent) -> None:
    async with Bus(broker.connect(), maximum_in_flight=1, owns_transport=True) as small:
        await small.submit("work", "one")

        with pytest.raises(LocalError) as refused:
            await small.submit("work", "two")
        assert refused.value.code == "LIMIT_EXCEEDED"


async def test_events_reach_whoever_listens(bus: Bus) -> None:
    async with bus.listen("news") as events:
        await bus.publish("news", "arrived", {"n": 1})
        event = await asyncio.wait_for(anext(events), 5)

    assert (event.data.topic, event.data.event) == ("news", "arrived")
    assert bytes(event.data.payload) == b'{"n":1}'


async def test_after_a_reconnect_an_absent_agent_gets_time_to_come_back(
    broker: MemoryBroker, bus: Bus, agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "SILENCE_GRACE_SECONDS", 0.05)
    task = await bus.submit("work", "hello")
    _, delivery = await agent.expect(TaskSubmit)
    await agent.send(delivery.reply, agent.status(task.task_id, 1, WORKING, keep_alive_seconds=0.1))
    await agent.transport.flush()
    await bus.transport.flush()
    await agent.vanish()
    broker.partition(bus.transport)  # type: ignore[arg-type]
    broker.heal(bus.transport)  # type: ignore[arg-type]

    await agent.start()
    _, probe = await agent.expect(TaskSubscribe)
    await agent.send(probe.reply, agent.snapshot(task.task_id, 1, []))
    await agent.send(probe.reply, agent.final(task.task_id, 2, "back again"))

    assert (await asyncio.wait_for(task.result(), 10)).text == "back again"
