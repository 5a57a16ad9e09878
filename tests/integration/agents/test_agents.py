"""Agents and callers over both transports: what users do, end to end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec
import pytest

from dragoman_agents import Agent, Context, serving
from dragoman_bus import Bus, DragomanError
from dragoman_bus.protocol.a2a import (
    Message,
    Role,
    TaskArtifactUpdateEvent,
    TaskState,
    text_part,
)
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.errors import (
    InvalidInput,
    LocalError,
    Overloaded,
    RemoteError,
    TaskCanceled,
    TaskFailed,
    TaskRejected,
)
from dragoman_bus.protocol.messages import AgentLease, ErrorMessage
from dragoman_bus.protocol.payloads import Usage
from dragoman_bus.protocol.subjects import agent_subject, instance_subject, skill_subject
from dragoman_bus.transports.port import Transport

pytestmark = pytest.mark.anyio

MakeTransport = Callable[[], Awaitable[Transport]]


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Bench:
    """Agents and one caller on one bus."""

    def __init__(self, stack: AsyncExitStack, make: MakeTransport) -> None:
        self._stack = stack
        self.make = make
        self.bus: Bus

    async def serve(self, agent: Agent, **options: float) -> object:
        return await self._stack.enter_async_context(
            serving(agent, await self.make(), grace_seconds=2.0, **options)  # type: ignore[arg-type]
        )


@pytest.fixture
async def bench(make_transport: MakeTransport) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        made = Bench(stack, make_transport)
        made.bus = await stack.enter_async_context(Bus(await make_transport()))
        yield made


def small_agent(name: str = "small") -> Agent:
    agent = Agent(name, description="Small things", concurrency=4)

    @agent.skill(tags=["text"])
    async def echo(text: str) -> str:
        """Say it again."""
        return text

    @agent.skill
    def move(point: Point, by: int = 1) -> Point:
        return Point(point.x + by, point.y)

    return agent


async def test_text_in_text_out(bench: Bench) -> None:
    await bench.serve(small_agent())

    result = await bench.bus.ask("echo", "bonjour")

    assert result.text == "bonjour"
    assert result.receipt is not None
    assert (result.receipt.agent, result.receipt.skill) == ("small", "echo")


async def test_typed_values_travel_both_ways_and_defaults_apply(bench: Bench) -> None:
    await bench.serve(small_agent())

    assert (await bench.bus.ask("move", {"point": {"x": 1}})).value == {"x": 2, "y": 0}
    assert (await bench.bus.ask("move", {"point": {"x": 1}, "by": 5})).value == {"x": 6, "y": 0}


async def test_an_agent_is_asked_by_name(bench: Bench) -> None:
    await bench.serve(small_agent("one"))
    await bench.serve(small_agent("two"))

    for name in ("one", "two"):
        receipt = (await bench.bus.ask("echo", "x", agent=name)).receipt
        assert receipt is not None
        assert receipt.agent == name


async def test_input_that_does_not_fit_is_rejected_at_the_agent(bench: Bench) -> None:
    await bench.serve(small_agent())

    with pytest.raises(TaskRejected, match="point") as refused:
        await bench.bus.ask("move", {"point": "nowhere"})
    assert refused.value.code == "INVALID_INPUT"
    assert refused.value.side_effects == "none"
    assert [violation["path"] for violation in refused.value.details["violations"]] == ["/point"]


async def test_input_that_does_not_fit_is_refused_at_the_caller_once_discovered(
    bench: Bench,
) -> None:
    await bench.serve(small_agent())
    assert [view.name for view in await bench.bus.discover(skill="move")] == ["small"]

    with pytest.raises(InvalidInput, match="/point"):
        await bench.bus.submit("move", {"point": "nowhere"})


async def test_a_skill_that_breaks_its_own_contract_fails_the_task(bench: Bench) -> None:
    agent = Agent("liar")

    @agent.skill
    async def lie(text: str) -> int:
        return text  # type: ignore[return-value]

    await bench.serve(agent)

    with pytest.raises(TaskFailed) as failed:
        await bench.bus.ask("lie", "not a number")
    assert failed.value.code == "INVALID_OUTPUT"


async def test_an_exception_becomes_a_failure_with_its_words_and_no_traceback(
    bench: Bench,
) -> None:
    agent = Agent("clumsy")

    @agent.skill
    async def drop(text: str) -> str:
        raise RuntimeError("it slipped")

    await bench.serve(agent)

    with pytest.raises(TaskFailed, match="RuntimeError: it slipped") as failed:
        await bench.bus.ask("drop", "vase")
    assert failed.value.code == "SKILL_FAILED"
    assert "Traceback" not in str(failed.value)


async def test_a_typed_error_of_a_skill_keeps_its_code_and_retry_time(bench: Bench) -> None:
    agent = Agent("limited")

    @agent.skill
    async def call(text: str) -> str:
        raise RemoteError("slow down", code="MODEL_RATE_LIMITED", retry_after=3.5)

    await bench.serve(agent)

    with pytest.raises(TaskFailed) as failed:
        await bench.bus.ask("call", "x")
    assert (failed.value.code, failed.value.retry_after) == ("MODEL_RATE_LIMITED", 3.5)
    assert failed.value.retryable


async def test_a_stream_arrives_piece_by_piece_and_whole(bench: Bench) -> None:
    agent = Agent("streamer")

    @agent.skill
    async def spell(text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter

    await bench.serve(agent)
    task = await bench.bus.submit("spell", "abcdef")

    pieces = [u async for u in task if isinstance(u, TaskArtifactUpdateEvent)]

    assert [piece.artifact.parts[0].text for piece in pieces] == list("abcdef")
    assert (await task.result()).text == "abcdef"


async def test_pieces_leave_while_their_skill_keeps_the_event_loop_busy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if making a piece took that long, without ever waiting for anything.
    monkeypatch.setattr("dragoman_agents.context.LONGEST_HELD_SECONDS", -1.0)
    agent = Agent("stubborn")
    turns: list[int] = []
    seen: list[int] = []

    @agent.skill
    async def spell(text: str) -> AsyncIterator[str]:
        for letter in text:
            asyncio.get_running_loop().call_soon(turns.append, 1)
            yield letter
            seen.append(len(turns))

    await bench.serve(agent)
    await bench.bus.ask("spell", "abc")

    assert seen == [1, 2, 3]


async def test_a_long_stream_waits_for_its_reader_and_loses_nothing(bench: Bench) -> None:
    agent = Agent("torrent")
    sent = 0

    @agent.skill
    async def flood(text: str, ctx: Context) -> str:
        nonlocal sent
        for number in range(500):
            await ctx.emit(f"{number} ")
            sent = number + 1
        return "".join(f"{number} " for number in range(500))

    await bench.serve(agent)
    task = await bench.bus.submit("flood", "x", flow_window=16)
    stream = aiter(task)
    await anext(stream)
    await bench.bus.transport.flush()
    assert sent <= 16 + 1

    rest = [update async for update in stream]

    assert sent == 500
    assert len([u for u in rest if isinstance(u, TaskArtifactUpdateEvent)]) == 499
    assert (await task.result()).text.split()[-1] == "499"


async def test_cancel_reaches_the_coroutine(bench: Bench) -> None:
    agent = Agent("patient")
    stopped = asyncio.Event()

    @agent.skill
    async def wait(text: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    await bench.serve(agent)
    task = await bench.bus.submit("wait", "x")

    assert await asyncio.wait_for(task.cancel("enough"), 10) is TaskState.CANCELED
    await asyncio.wait_for(stopped.wait(), 5)
    with pytest.raises(TaskCanceled, match="enough"):
        await task.result()


async def test_a_deadline_is_kept_by_the_agent(bench: Bench) -> None:
    agent = Agent("late")

    @agent.skill
    async def wait(text: str) -> str:
        await asyncio.Event().wait()
        return "never"

    await bench.serve(agent)

    with pytest.raises(DragomanError) as missed:
        await bench.bus.ask("wait", "x", deadline=0.6)
    assert missed.value.code == "DEADLINE_EXCEEDED"


async def test_a_full_agent_says_when_to_come_back(bench: Bench) -> None:
    agent = Agent("busy", concurrency=1, queue=0)
    release = asyncio.Event()

    @agent.skill
    async def hold(text: str) -> str:
        await release.wait()
        return text

    await bench.serve(agent)
    first = await bench.bus.submit("hold", "first")
    await bench.bus.transport.flush()

    with pytest.raises(Overloaded) as refused:
        await bench.bus.ask("hold", "second", retries=0)
    assert refused.value.retry_after is not None

    waiting = asyncio.create_task(bench.bus.ask("hold", "third", retries=50))
    release.set()
    assert (await first.result()).text == "first"
    assert (await waiting).text == "third"


async def test_queued_tasks_run_in_turn_and_can_be_canceled_before(bench: Bench) -> None:
    agent = Agent("single", concurrency=1, queue=8)
    release = asyncio.Event()
    ran: list[str] = []

    @agent.skill
    async def hold(text: str) -> str:
        ran.append(text)
        await release.wait()
        return text

    await bench.serve(agent)
    tasks = [await bench.bus.submit("hold", name) for name in ("a", "b", "c")]

    assert await asyncio.wait_for(tasks[1].cancel(), 10) is TaskState.CANCELED
    release.set()

    assert (await tasks[0].result()).text == "a"
    assert (await tasks[2].result()).text == "c"
    assert ran == ["a", "c"]


async def test_a_plain_function_runs_in_a_thread_and_does_not_block_others(bench: Bench) -> None:
    agent = Agent("threads", concurrency=4)
    release = threading.Event()

    @agent.skill
    def block(text: str) -> str:
        assert release.wait(10)
        return threading.current_thread().name

    @agent.skill
    async def free(text: str) -> str:
        return text

    await bench.serve(agent)
    blocked = await bench.bus.submit("block", "x")
    assert (await bench.bus.ask("free", "still here")).text == "still here"
    release.set()

    assert (await blocked.result()).text.startswith("dragoman-threads")


async def test_a_skill_asks_back_and_goes_on_with_the_reply(bench: Bench) -> None:
    agent = Agent("curious")

    @agent.skill
    async def greet(text: str, ctx: Context) -> str:
        language = await ctx.ask("which language?")
        return f"{text} in {language}"

    await bench.serve(agent)
    task = await bench.bus.submit("greet", "hello")
    with pytest.raises(LocalError, match="which language"):
        await task.result()
    await task.reply("French")

    assert (await task.result()).text == "hello in French"
    with pytest.raises(DragomanError):
        await task.reply("too late")


async def test_the_same_reply_twice_is_taken_once(bench: Bench) -> None:
    agent = Agent("curious")

    @agent.skill
    async def add(text: str, ctx: Context) -> str:
        return f"{await ctx.ask('first?')} {await ctx.ask('second?')}"

    await bench.serve(agent)
    task = await bench.bus.submit("add", "x")
    first, second = (
        Message(message_id=f"reply-{n}", role=Role.USER, parts=[text_part(str(n))]) for n in (1, 2)
    )
    with pytest.raises(LocalError, match="first"):
        await task.result()
    await task.reply(first)
    await task.reply(first)
    with pytest.raises(LocalError, match="second"):
        await task.result()
    await task.reply(second)

    assert (await task.result()).text == "1 2"


async def test_the_same_submission_twice_is_one_task(bench: Bench) -> None:
    agent = Agent("once")
    runs = 0

    @agent.skill
    async def count(text: str) -> str:
        nonlocal runs
        runs += 1
        return str(runs)

    await bench.serve(agent)
    first = await bench.bus.ask("count", "x", task_id="fixed")
    again = await bench.bus.ask("count", "x", task_id="fixed")
    assert first.text == "1"
    assert (again.task, again.receipt) == (first.task, first.receipt)

    with pytest.raises(TaskRejected) as conflict:
        await bench.bus.ask("count", "other words", task_id="fixed")
    assert conflict.value.code == "TASK_CONFLICT"


async def test_a_contract_that_is_not_the_agents_is_refused(bench: Bench) -> None:
    await bench.serve(small_agent())

    with pytest.raises(TaskRejected) as refused:
        await bench.bus.ask("echo", "x", contract="sha256:" + "0" * 64)
    assert refused.value.code == "CONTRACT_MISMATCH"
    assert str(refused.value.details["contract"]).startswith("sha256:")


async def test_replicas_share_the_work(bench: Bench) -> None:
    for _ in range(2):
        await bench.serve(small_agent())

    results = await asyncio.gather(*(bench.bus.ask("echo", str(n)) for n in range(64)))

    assert [result.text for result in results] == [str(n) for n in range(64)]
    assert len({result.receipt.instance for result in results if result.receipt}) == 2
    views = await bench.bus.discover(agent="small")
    assert [len(view.instances) for view in views] == [2]


async def test_work_is_delegated_with_shrinking_limits_and_summed_usage(bench: Bench) -> None:
    parent, child = Agent("parent"), Agent("child")
    seen: dict[str, object] = {}

    @child.skill
    async def part(text: str, ctx: Context) -> str:
        data = ctx._job.data
        seen["hops"] = data.limits.max_hops  # type: ignore[union-attr]
        seen["path"] = data.lineage.path  # type: ignore[union-attr]
        seen["remaining"] = ctx.deadline
        ctx.report_usage(Usage(input_tokens=3, output_tokens=4, calls=1))
        return text.upper()

    @parent.skill
    async def whole(text: str, ctx: Context) -> str:
        ctx.report_usage(Usage(input_tokens=10, calls=1))
        return (await ctx.delegate("part", text=text)).text + "!"

    await bench.serve(parent)
    await bench.serve(child)

    result = await bench.bus.ask("whole", "go", max_hops=3, deadline=20)

    assert result.text == "GO!"
    assert seen["hops"] == 2
    assert seen["path"] == ["parent"]
    assert isinstance(seen["remaining"], float)
    assert seen["remaining"] <= 20
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.calls) == (13, 2)


async def test_a_delegation_that_comes_back_is_refused(bench: Bench) -> None:
    agent = Agent("circle")

    @agent.skill
    async def again(text: str, ctx: Context) -> str:
        return (await ctx.delegate("again", text=text)).text

    await bench.serve(agent)

    with pytest.raises(TaskFailed) as refused:
        await bench.bus.ask("again", "x")
    assert refused.value.code == "DELEGATION_LOOP"


async def test_cancelling_a_parent_cancels_the_child(bench: Bench) -> None:
    parent, child = Agent("parent"), Agent("child")
    child_stopped = asyncio.Event()
    child_started = asyncio.Event()

    @child.skill
    async def part(text: str) -> str:
        child_started.set()
        try:
            await asyncio.Event().wait()
        finally:
            child_stopped.set()
        return "never"

    @parent.skill
    async def whole(text: str, ctx: Context) -> str:
        return (await ctx.delegate("part", text=text)).text

    await bench.serve(parent)
    await bench.serve(child)
    task = await bench.bus.submit("whole", "x")
    await asyncio.wait_for(child_started.wait(), 5)

    assert await asyncio.wait_for(task.cancel(), 15) is TaskState.CANCELED
    await asyncio.wait_for(child_stopped.wait(), 15)


HOSTILE = {
    "empty": b"",
    "random": bytes(range(256)) * 4,
    "truncated": b'{"specversion":"1.0","type":"dev.dragoman.task.submit","data":{"taskId":"t',
    "deep": b'{"a":' * 20_000,
    "null": b"null",
    "wrong version": b'{"type":"dev.dragoman.task.submit","protocolversion":"9.0"}',
    "unknown type": b'{"type":"dev.dragoman.no.such","protocolversion":"1.0"}',
    "large": b"x" * 200_000,
}


@pytest.mark.parametrize("junk", HOSTILE.values(), ids=list(HOSTILE))
async def test_any_bytes_on_any_subject_give_an_error_and_the_agent_goes_on(
    bench: Bench, junk: bytes
) -> None:
    instance = await bench.serve(small_agent())
    transport = bench.bus.transport
    operations = ("submit", "cancel", "reply", "get", "subscribe", "flow", "status", "drain")
    subjects = [
        agent_subject("small"),
        skill_subject("echo"),
        *(instance_subject(instance.id, operation) for operation in operations),  # type: ignore[attr-defined]
    ]
    for subject in subjects:
        await transport.publish(subject, junk)
        answer = decode((await transport.request(subject, junk, timeout=5)).data)
        assert isinstance(answer, ErrorMessage)
        assert answer.data.error.code in ("INVALID_MESSAGE", "UNKNOWN_TYPE", "UNSUPPORTED_VERSION")

    assert (await bench.bus.ask("echo", "alive")).text == "alive"
    assert instance.totals.invalid == 2 * len(subjects)  # type: ignore[attr-defined]


async def test_an_unknown_skill_is_named_with_what_there_is(bench: Bench) -> None:
    await bench.serve(small_agent())

    with pytest.raises(TaskRejected, match="echo, move") as refused:
        await bench.bus.ask("juggle", "x", agent="small")
    assert refused.value.code == "UNKNOWN_SKILL"


async def test_an_operator_sees_and_drains_an_instance(bench: Bench) -> None:
    instance = await bench.serve(small_agent())
    transport = bench.bus.transport
    request = json.dumps(
        {
            "specversion": "1.0",
            "id": "1",
            "source": "/clients/operator",
            "type": "dev.dragoman.agent.status",
            "time": "2026-01-01T00:00:00Z",
            "protocolversion": "1.0",
            "data": {},
        }
    ).encode()
    subject = instance_subject(instance.id, "status")  # type: ignore[attr-defined]
    lease = decode((await transport.request(subject, request, timeout=5)).data)
    assert isinstance(lease, AgentLease)
    assert (lease.data.state.value, lease.data.slots) == ("ready", 4)

    drain = request.replace(b"agent.status", b"agent.drain")
    subject = instance_subject(instance.id, "drain")  # type: ignore[attr-defined]
    lease = decode((await transport.request(subject, drain, timeout=5)).data)
    assert isinstance(lease, AgentLease)
    assert lease.data.state.value == "draining"
    assert instance.drain_requested.is_set()  # type: ignore[attr-defined]


async def test_every_nats_tool_sees_an_agent_as_a_service(bench: Bench) -> None:
    instance = await bench.serve(small_agent())
    transport = bench.bus.transport
    await bench.bus.ask("echo", "x")

    for verb in ("PING", "INFO", "STATS"):
        for scope in ("", ".small", f".small.{instance.id}"):  # type: ignore[attr-defined]
            delivery = await transport.request(f"$SRV.{verb}{scope}", b"", timeout=5)
            answer = json.loads(delivery.data)
            assert answer["type"] == f"io.nats.micro.v1.{verb.lower()}_response"
            assert answer["name"] == "small"
    assert sum(endpoint["num_requests"] for endpoint in answer["endpoints"]) == 1
    assert answer["endpoints"][0]["data"]["slots"] == 4


async def test_leaving_finishes_what_runs(make_transport: MakeTransport) -> None:
    agent = Agent("leaver")
    started, release = asyncio.Event(), asyncio.Event()

    @agent.skill
    async def hold(text: str) -> str:
        started.set()
        await release.wait()
        return text

    async with Bus(await make_transport()) as bus:
        async with serving(agent, await make_transport(), grace_seconds=10):
            task = await bus.submit("hold", "kept")
            await started.wait()
            asyncio.get_running_loop().call_later(0.2, release.set)
        assert (await task.result()).text == "kept"
        assert await bus.discover() == []


async def test_output_too_large_for_a_message_fails_the_task_and_says_so(bench: Bench) -> None:
    agent = Agent("verbose")

    @agent.skill
    async def write(text: str) -> str:
        return "x" * 300_000

    await bench.serve(agent)

    with pytest.raises(TaskFailed) as failed:
        await bench.bus.ask("write", "x")
    assert failed.value.code == "PAYLOAD_TOO_LARGE"


async def test_a_piece_too_large_for_a_message_fails_the_task_without_a_gap(bench: Bench) -> None:
    agent = Agent("verbose")

    @agent.skill
    async def write(text: str, ctx: Context) -> str:
        await ctx.emit("small")
        await ctx.emit("x" * 300_000)
        return "never"

    await bench.serve(agent)
    task = await bench.bus.submit("write", "x")

    with pytest.raises(TaskFailed) as failed:
        await task.result()
    assert failed.value.code == "PAYLOAD_TOO_LARGE"


async def test_a_message_on_the_subject_of_another_operation_is_refused(bench: Bench) -> None:
    agent = Agent("patient")

    @agent.skill
    async def wait(text: str) -> str:
        await asyncio.Event().wait()
        return "never"

    instance = await bench.serve(agent)
    task = await bench.bus.submit("wait", "x", task_id="held")
    request = json.dumps(
        {
            "specversion": "1.0",
            "id": "1",
            "source": "/clients/intruder",
            "type": "dev.dragoman.task.cancel",
            "time": "2026-01-01T00:00:00Z",
            "protocolversion": "1.0",
            "data": {"taskId": "held"},
        }
    ).encode()
    subject = instance_subject(instance.id, "get")  # type: ignore[attr-defined]

    answer = decode((await bench.bus.transport.request(subject, request, timeout=5)).data)

    assert isinstance(answer, ErrorMessage)
    assert answer.data.error.code == "UNKNOWN_TYPE"
    assert not task.state.value.endswith("CANCELED")
    assert await asyncio.wait_for(task.cancel(), 15) is TaskState.CANCELED


async def test_a_task_that_arrives_after_its_deadline_is_not_started(bench: Bench) -> None:
    await bench.serve(small_agent())

    with pytest.raises(DragomanError) as missed:
        await bench.bus.ask("echo", "x", deadline=-1.0)
    assert missed.value.code == "DEADLINE_EXCEEDED"


async def test_tokens_shrink_when_a_task_is_delegated_and_are_enforced(bench: Bench) -> None:
    parent, child = Agent("parent"), Agent("child")
    allowed: list[object] = []

    @child.skill
    async def part(text: str, ctx: Context) -> str:
        allowed.append(ctx._job.data.limits.max_tokens)  # type: ignore[union-attr]
        ctx.report_usage(Usage(input_tokens=30, output_tokens=15))
        return text

    @parent.skill
    async def whole(text: str, ctx: Context) -> str:
        for _ in range(3):
            await ctx.delegate("part", text=text)
        return "spent"

    await bench.serve(parent)
    await bench.serve(child)

    with pytest.raises(TaskFailed) as refused:
        await bench.bus.ask("whole", "x", max_tokens=100)
    assert refused.value.code == "LIMIT_EXCEEDED"
    assert allowed == [100, 55, 10]
