"""What an agent sends when it delegates: limits that shrink, lineage, usage, the trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry import trace as telemetry
from opentelemetry.sdk.trace import TracerProvider

from dragoman_agents import Agent, Context
from dragoman_bus import Bus, TraceContext, traced
from tests.conformance.agent_rules.conftest import Serve
from tests.conformance.agent_rules.raw_caller import RawCaller, state_of
from tests.conformance.caller_rules.raw_agent import RawAgent, Request
from tests.conftest import MakeTransport

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATE = "vendor=value"


@pytest.fixture
async def child(make_transport: MakeTransport) -> AsyncIterator[RawAgent]:
    """The one who is delegated to: takes whatever comes, and answers what a test says."""
    raw = await RawAgent(await make_transport(), agent="child", skill="part").start()
    yield raw
    assert raw.invalid == []
    await raw.vanish()


@pytest.fixture
def parent() -> Agent:
    """Delegates all of its work, and what is told of it."""
    agent = Agent("parent")

    @agent.skill
    async def whole(text: str, *, ctx: Context) -> str:
        return str((await ctx.delegate("part", text=text)).value)

    @agent.skill
    async def thrice(text: str, *, ctx: Context) -> str:
        for _ in range(3):
            try:
                await ctx.delegate("part", text=text)
            except Exception as error:
                if "LIMIT" in str(error):
                    raise
        return "done"

    return agent


async def answer(child: RawAgent, request: Request, **members: Any) -> None:
    await child.send(request.reply, child.final(request.task, 1, "done", **members))


def in_a_minute() -> str:
    return (datetime.now(UTC) + timedelta(minutes=1)).isoformat().replace("+00:00", "Z")


async def test_a_child_ends_no_later_than_its_parent_and_says_where_it_comes_from(
    serve: Serve, caller: RawCaller, parent: Agent, child: RawAgent
) -> None:
    await serve(parent)
    deadline = in_a_minute()
    above = {"parentTaskId": "p", "rootTaskId": "r", "path": ["top", "middle"]}
    limits = {"deadline": deadline, "maxHops": 3, "maxTokens": 50}

    for members in ({"limits": limits, "lineage": above}, {"limits": limits}, {}):
        answers = await caller.submit("whole", **members)
        request = await child.expect("task.submit")
        await answer(child, request)
        assert state_of(await answers.end()) == "TASK_STATE_COMPLETED"
        data = request.data
        path = above["path"] if "lineage" in members else []
        assert data["lineage"] == {
            "parentTaskId": answers.task,
            "rootTaskId": "r" if path else answers.task,
            "path": [*path, "parent"],
        }
        if "limits" in members:
            assert datetime.fromisoformat(data["limits"]["deadline"]) <= datetime.fromisoformat(
                deadline
            )
            assert (data["limits"]["maxHops"], data["limits"]["maxTokens"]) == (2, 50)


async def test_a_task_without_hops_delegates_nothing(
    serve: Serve, caller: RawCaller, parent: Agent, child: RawAgent
) -> None:
    await serve(parent)

    end = await (await caller.submit("whole", limits={"maxHops": 0})).end()

    assert (state_of(end), end["data"]["error"]["code"]) == ("TASK_STATE_FAILED", "LIMIT_EXCEEDED")
    assert child.requests == []


async def test_what_failed_children_used_counts_as_well(
    serve: Serve, caller: RawCaller, parent: Agent, child: RawAgent
) -> None:
    await serve(parent)
    answers = await caller.submit("thrice", limits={"maxTokens": 100})
    left = []
    for _ in range(2):
        request = await child.expect("task.submit")
        left.append(request.data["limits"]["maxTokens"])
        error = child.error("MODEL_OVERLOADED")["data"]["error"]
        used = {"inputTokens": 40, "outputTokens": 20, "source": "provider"}
        await answer(child, request, state="TASK_STATE_FAILED", error=error, usage=used)

    end = await answers.end()
    assert left == [100, 40]
    assert (state_of(end), end["data"]["error"]["code"]) == ("TASK_STATE_FAILED", "LIMIT_EXCEEDED")
    assert end["data"]["usage"]["inputTokens"] == 80


async def test_a_task_that_ends_cancels_its_open_children(
    serve: Serve, caller: RawCaller, parent: Agent, child: RawAgent
) -> None:
    instance = await serve(parent)
    answers = await caller.submit("whole")
    request = await child.expect("task.submit")
    await child.send(request.reply, child.status(request.task, 1))
    await answers.first()

    await caller.ask(instance.id, "cancel", taskId=answers.task)

    cancel = await child.expect("task.cancel")
    assert cancel.task == request.task
    await child.send(request.reply, child.final(request.task, 2, state="TASK_STATE_CANCELED"))
    assert state_of(await answers.end()) == "TASK_STATE_CANCELED"


def trace_of(request: Request) -> tuple[str | None, str | None]:
    return request.document.get("traceparent"), request.document.get("tracestate")


async def test_the_trace_of_a_task_goes_on_to_its_children(
    serve: Serve, caller: RawCaller, parent: Agent, child: RawAgent
) -> None:
    await serve(parent)

    for told, passed in (
        ({"traceparent": TRACE, "tracestate": STATE}, (TRACE, STATE)),
        ({"traceparent": TRACE}, (TRACE, None)),
        ({"traceparent": "not a trace", "tracestate": STATE}, (None, None)),
        ({}, (None, None)),
    ):
        document = caller.submission("whole") | told
        answers = await caller.send("dragoman.v1.rpc.parent", document)
        request = await child.expect("task.submit")
        assert trace_of(request) == passed
        await answer(child, request)
        await answers.end()


@pytest.fixture
def tracer() -> Iterator[telemetry.Tracer]:
    provider = TracerProvider()
    yield provider.get_tracer("test")
    provider.shutdown()


async def test_the_active_span_of_a_skill_is_what_its_children_hang_below(
    serve: Serve, caller: RawCaller, child: RawAgent, tracer: telemetry.Tracer
) -> None:
    agent = Agent("parent")
    spans: list[telemetry.SpanContext] = []

    @agent.skill
    async def whole(text: str, *, ctx: Context) -> str:
        with tracer.start_as_current_span("work") as span:
            spans.append(span.get_span_context())
            assert spans[0].span_id == int(ctx.trace_headers["traceparent"].split("-")[2], 16)
            return str((await ctx.delegate("part", text=text)).value)

    await serve(agent)
    document = caller.submission("whole") | {"traceparent": TRACE}
    answers = await caller.send("dragoman.v1.rpc.parent", document)
    request = await child.expect("task.submit")
    await answer(child, request)
    await answers.end()

    trace_id, span_id = trace_of(request)[0].split("-")[1:3]  # type: ignore[union-attr]
    assert trace_id == TRACE.split("-")[1]
    assert int(span_id, 16) == spans[0].span_id


async def test_a_callers_span_or_the_trace_it_was_given_travels_with_its_tasks(
    make_transport: MakeTransport, child: RawAgent, tracer: telemetry.Tracer
) -> None:
    async with Bus(await make_transport()) as bus:
        with traced(TraceContext(TRACE, STATE)):
            given = await bus.submit("part", "x")
        with tracer.start_as_current_span("asking") as span:
            spanned = await bus.submit("part", "x")
        plain = await bus.submit("part", "x")
        requests = {}
        for _ in range(3):
            request = await child.expect("task.submit")
            requests[request.task] = request
            await answer(child, request)
        await asyncio.gather(given.result(), spanned.result(), plain.result())

    assert trace_of(requests[given.task_id]) == (TRACE, STATE)
    context = span.get_span_context()
    flags = int(context.trace_flags)
    expected = f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"
    assert trace_of(requests[spanned.task_id]) == (expected, None)
    assert trace_of(requests[plain.task_id]) == (None, None)
