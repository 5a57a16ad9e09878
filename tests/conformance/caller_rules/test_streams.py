"""How a caller reads a stream: order, gaps, repetitions, forged sources, the end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dragoman_bus import Bus
from dragoman_bus.client import TaskHandle
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent, TaskState
from dragoman_bus.protocol.contracts import text_of
from dragoman_bus.protocol.errors import FlowExceeded, TaskFailed
from tests.conformance.caller_rules.documents import WORKING
from tests.conformance.caller_rules.raw_agent import RawAgent
from tests.conftest import MakeTransport
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def streamed(task: TaskHandle) -> list[str]:
    """The text of each artifact update, in the order in which the caller is told."""
    return [
        text_of(update.artifact.parts, separator="") or ""
        async for update in task
        if isinstance(update, TaskArtifactUpdateEvent)
    ]


async def result_text(task: TaskHandle) -> str:
    return (await asyncio.wait_for(task.result(), 10)).text


async def test_repeated_messages_are_told_once(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    first, second = agent.chunk(request.task, 1, "a"), agent.chunk(request.task, 2, "b")
    final = agent.final(request.task, 3)
    await agent.send(request.reply, first, first, second, first, second, final, final)

    assert await streamed(task) == ["a", "b"]
    assert await result_text(task) == "ab"


async def test_reordered_messages_are_told_in_order_and_need_no_snapshot_once_complete(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    chunks = [agent.chunk(request.task, number, f"{number} ") for number in range(1, 6)]
    order = [chunks[index] for index in (1, 0, 4, 2, 3)]
    await agent.send(request.reply, *order, agent.final(request.task, 6))

    assert await streamed(task) == ["1 ", "2 ", "3 ", "4 ", "5 "]


async def test_a_lost_message_is_repaired_by_a_snapshot_that_repeats_nothing(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    agent_says = [agent.chunk(request.task, 1, "a"), agent.chunk(request.task, 3, "c")]
    await agent.send(request.reply, *agent_says)

    repair = await agent.expect("task.subscribe")
    assert repair.subject == "dragoman.v1.inst.raw-1.subscribe"
    assert repair.data["after"] == 1
    await agent.send(
        repair.reply,
        agent.snapshot(request.task, 3, "a", "b", "c"),
        agent.final(request.task, 4),
    )

    assert "".join(await streamed(task)) == "abc"


async def test_messages_beyond_a_gap_wait_until_it_is_closed(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(
        request.reply, agent.chunk(request.task, 1, "a"), agent.chunk(request.task, 3, "c")
    )
    repair = await agent.expect("task.subscribe")
    updates = aiter(task)
    assert isinstance(await anext(updates), TaskArtifactUpdateEvent)
    following = asyncio.ensure_future(anext(updates))
    assert task.task.artifacts
    assert len(task.task.artifacts[0].parts) == 1
    assert not following.done()

    await agent.send(repair.reply, agent.chunk(request.task, 2, "b"))
    update = await asyncio.wait_for(following, 10)
    assert isinstance(update, TaskArtifactUpdateEvent)
    assert text_of(update.artifact.parts) == "b"


async def test_a_second_instance_on_one_task_is_ignored(
    bus: Bus, agent: RawAgent, make_transport: MakeTransport
) -> None:
    forger = RawAgent(await make_transport(), instance="raw-2")
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(
        request.reply,
        agent.chunk(request.task, 1, "mine"),
        forger.chunk(request.task, 2, "forged"),
        forger.final(request.task, 2, "forged"),
        forger.snapshot(request.task, 9, "forged", state="TASK_STATE_FAILED"),
        agent.final(request.task, 2),
    )

    assert await result_text(task) == "mine"
    assert task.instance == "raw-1"


async def test_a_message_from_no_agent_at_all_is_ignored(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    stranger = agent.final(request.task, 2, "forged") | {"source": "/clients/somebody"}
    await agent.send(
        request.reply, agent.chunk(request.task, 1, "mine"), stranger, agent.final(request.task, 2)
    )

    assert await result_text(task) == "mine"


async def test_a_message_about_another_task_is_ignored(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(
        request.reply,
        agent.chunk(request.task, 1, "mine"),
        agent.final("another-task", 2, "not mine"),
        agent.final(request.task, 2),
    )

    assert await result_text(task) == "mine"


async def test_a_lower_attempt_is_ignored_and_a_higher_one_begins_anew(
    bus: Bus, agent: RawAgent, make_transport: MakeTransport
) -> None:
    successor = RawAgent(await make_transport(), instance="raw-2")
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(
        request.reply,
        agent.status(request.task, 1),
        successor.status(request.task, 1, "TASK_STATE_SUBMITTED", attempt=2),
        agent.final(request.task, 2, "too late"),
        successor.status(request.task, 2, WORKING, attempt=2),
        successor.final(request.task, 3, "second run", attempt=2),
    )

    assert await result_text(task) == "second run"
    assert task.instance == "raw-2"


async def test_a_terminal_snapshot_replaces_the_artifacts_that_were_streamed(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(
        request.reply,
        agent.chunk(request.task, 1, "draft ", append=False),
        agent.chunk(request.task, 2, "of it"),
        agent.snapshot(request.task, 4, "the answer", state="TASK_STATE_COMPLETED"),
    )

    assert await result_text(task) == "the answer"
    assert [len(artifact.parts) for artifact in task.task.artifacts or ()] == [1]


async def test_nothing_follows_a_terminal_snapshot(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(
        request.reply,
        agent.snapshot(request.task, 4, "the answer", state="TASK_STATE_COMPLETED"),
        agent.final(request.task, 5, "more", state="TASK_STATE_FAILED"),
    )

    assert await result_text(task) == "the answer"


async def test_a_change_of_state_that_is_not_allowed_is_never_a_state_of_the_task(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(
        request.reply,
        agent.status(request.task, 1),
        # Terminal states are told by task.final only, and task.final tells no others.
        agent.status(request.task, 2, "TASK_STATE_FAILED"),
        agent.final(request.task, 2, "not the end", state="TASK_STATE_WORKING"),
        agent.final(request.task, 2, "the end"),
        agent.status(request.task, 3),
        agent.snapshot(request.task, 4, "not the end", state="TASK_STATE_FAILED"),
        agent.final(request.task, 3, state="TASK_STATE_FAILED"),
        agent.status(request.task, 1, attempt=2),
    )

    assert await result_text(task) == "the end"
    await agent.transport.flush()
    await bus.transport.flush()
    assert task.state is TaskState.COMPLETED
    assert bus.invalid_messages == 2


async def test_an_overrun_of_the_flow_window_ends_the_conversation_and_cancels(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello", flow_window=4)
    request = await agent.expect("task.submit")
    assert request.data["flowWindow"] == 4
    await agent.send(
        request.reply, *(agent.chunk(request.task, number, "x") for number in range(1, 7))
    )

    canceled = await agent.expect("task.cancel")
    assert canceled.subject == "dragoman.v1.inst.raw-1.cancel"
    with pytest.raises(FlowExceeded) as exceeded:
        await streamed(task)
    assert exceeded.value.code == "FLOW_EXCEEDED"


async def test_a_reader_tells_how_far_it_has_read_and_never_further(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello", flow_window=4)
    request = await agent.expect("task.submit")
    updates = aiter(task)
    for number in range(1, 9):
        await agent.send(request.reply, agent.chunk(request.task, number, str(number)))
        await asyncio.wait_for(anext(updates), 10)
        if number % 2 == 0:
            flow = await agent.expect("task.flow")
            assert flow.data == {"taskId": request.task, "through": number}
            assert flow.reply == ""


async def test_unknown_members_and_a_later_minor_version_are_understood(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    final = agent.final(request.task, 1, "from tomorrow", mood="cheerful")
    final |= {"protocolversion": "1.7", "com.example.priority": {"level": [1]}}
    final["data"]["statusUpdate"]["new"] = True
    final["data"]["artifacts"][0]["parts"][0]["weight"] = 0.5
    await agent.send(request.reply, final)

    assert await result_text(task) == "from tomorrow"


BROKEN: list[Any] = [
    b"",
    b"\xff\xfe junk",
    b"null",
    b"[]",
    b"{}",
    b'{"specversion":"1.0"',
    b"[" * 100_000,
]


async def test_whatever_is_not_valid_is_dropped_counted_and_changes_nothing(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    final = agent.final(request.task, 1, "not valid")
    broken = [
        {key: value for key, value in final.items() if key != "time"},
        final | {"data": {**final["data"], "sequence": 1.0}},
        final | {"data": {**final["data"], "sequence": None}},
        final | {"data": {**final["data"], "attempt": "1"}},
        final | {"protocolversion": "2.0"},
        final | {"protocolversion": "1.0.0"},
        final | {"type": "dev.dragoman.task.unheard_of"},
        agent.final(request.task, 1, "x", state="TASK_STATE_UNSPECIFIED"),
    ]
    await agent.send(request.reply, *BROKEN, *broken, agent.final(request.task, 1, "valid"))

    assert await result_text(task) == "valid"
    assert bus.invalid_messages == len(BROKEN) + len(broken)


async def test_the_body_counts_and_not_the_headers(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    liar = {"Status": "503", "ce-type": "dev.dragoman.error", "ce-subject": "another"}
    await agent.send(request.reply, agent.final(request.task, 1, "the body"), headers=liar)

    assert await result_text(task) == "the body"


async def test_nothing_is_fetched_that_a_message_names(bus: Bus, agent: RawAgent) -> None:
    connections: list[object] = []

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.close()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/schema.json"
    async with server:
        task = await bus.submit("work", "hello")
        request = await agent.expect("task.submit")
        final = agent.final(request.task, 1, "fetched nothing") | {"dataschema": address}
        await agent.send(request.reply, final)
        assert await result_text(task) == "fetched nothing"
        # A connection that was begun arrives before one that is made now.
        reader, writer = await asyncio.open_connection("127.0.0.1", address.split(":")[2][:-12])
        await reader.read()
        writer.close()
    assert len(connections) == 1


async def test_an_answer_to_an_error_or_to_a_message_is_never_sent(
    bus: Bus, agent: RawAgent
) -> None:
    answers: list[bytes] = []
    subscription = await agent.transport.subscribe(
        "listening", lambda delivery: answers.append(delivery.data)
    )
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    refusal = agent.error("SKILL_FAILED", request.task)
    for document in (b"junk", b"{}", refusal):
        await agent.send(request.reply, document, reply="listening")

    with pytest.raises(Exception, match="scripted"):
        await result_text(task)
    await bus.transport.flush()
    await agent.transport.flush()
    assert answers == []
    assert [made.kind for made in agent.requests] == ["task.submit"]
    await subscription.unsubscribe()


async def test_the_terminal_state_and_not_the_answer_to_cancel_ends_a_task(
    bus: Bus, agent: RawAgent
) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    await agent.send(request.reply, agent.status(request.task, 1))
    await eventually(lambda: task.instance)
    canceling = asyncio.ensure_future(task.cancel())
    cancel = await agent.expect("task.cancel")
    await agent.send(cancel.reply, agent.snapshot(request.task, 1))
    await agent.transport.flush()
    await bus.transport.flush()
    assert not canceling.done()

    await agent.send(request.reply, agent.final(request.task, 2, "done before"))
    assert await asyncio.wait_for(canceling, 10) is TaskState.COMPLETED


async def test_a_failed_task_tells_the_error_that_its_final_has(bus: Bus, agent: RawAgent) -> None:
    task = await bus.submit("work", "hello")
    request = await agent.expect("task.submit")
    error = agent.error("COM_EXAMPLE_BROKE", sideEffects="committed")["data"]["error"]
    await agent.send(
        request.reply, agent.final(request.task, 1, state="TASK_STATE_FAILED", error=error)
    )

    with pytest.raises(TaskFailed) as failed:
        await result_text(task)
    assert (failed.value.code, failed.value.side_effects) == ("COM_EXAMPLE_BROKE", "committed")
    assert json.dumps(dict(failed.value.details)) == "{}"
