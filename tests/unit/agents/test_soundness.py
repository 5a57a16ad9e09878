"""What an author hands over and no receiver would accept fails the task with words, at once."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from dragoman_agents import Agent, Context, serving
from dragoman_bus import Bus
from dragoman_bus.protocol.a2a import Part
from dragoman_bus.protocol.errors import RemoteError, TaskFailed
from dragoman_bus.protocol.payloads import Cost, Usage
from dragoman_bus.transports.memory import MemoryBroker

pytestmark = pytest.mark.anyio

HALF = "half \ud83d a character"


def usage(**members: Any) -> Usage:
    return Usage(**members)


async def ask(agent: Agent) -> Any:
    """The answer of the agent's skill ``work``."""
    broker = MemoryBroker()
    async with serving(agent, broker.connect()), Bus(broker.connect()) as bus:
        return await bus.ask("work", {}, deadline=30)


@pytest.mark.parametrize(
    ("given", "member"),
    [
        (usage(input_tokens=None), "inputTokens"),
        (usage(output_tokens=1.5), "outputTokens"),
        (usage(input_tokens=-1), "inputTokens"),
        (usage(input_tokens=2**70), "inputTokens"),
        (usage(cost=0.01), "cost"),
        (usage(cost=Cost(amount="0.01", currency="USD")), "cost.amount"),  # type: ignore[arg-type]
        (usage(cost=Cost(amount=float("nan"), currency="USD")), "cost.amount"),
        (usage(cost=Cost(amount=0.01, currency="usd")), "cost.currency"),
    ],
)
async def test_a_usage_that_is_not_valid_is_refused_with_its_member(
    given: Usage, member: str
) -> None:
    agent = Agent("careless")

    @agent.skill
    async def work(*, ctx: Context) -> str:
        ctx.report_usage(given)
        return "done"

    with pytest.raises(TaskFailed, match=rf"a usage cannot be sent: .*`\$\.{member}`"):
        await ask(agent)


@pytest.mark.parametrize("piece", [None, 7, b"bytes", {"text": "hello"}])
async def test_a_stream_of_what_is_no_text_is_refused_with_its_type(piece: Any) -> None:
    agent = Agent("careless")

    @agent.skill
    async def work() -> AsyncIterator[str]:
        yield piece

    with pytest.raises(TaskFailed, match=f"is text, not {type(piece).__name__}"):
        await ask(agent)


@pytest.mark.parametrize(
    "tell",
    [
        lambda ctx: ctx.emit(HALF),
        lambda ctx: ctx.emit(Part(text=HALF)),
        lambda ctx: ctx.emit(Part(data=msgspec.Raw(b"{"))),
        lambda ctx: ctx.status(HALF),
        lambda ctx: ctx.status(7),
        lambda ctx: ctx.ask(7),
    ],
)
async def test_what_no_message_can_carry_is_refused_where_it_is_said(
    tell: Callable[[Context], Any],
) -> None:
    agent = Agent("careless")

    @agent.skill
    async def work(*, ctx: Context) -> str:
        await tell(ctx)
        return "done"

    with pytest.raises(TaskFailed, match="SKILL_FAILED"):
        await ask(agent)


@pytest.mark.parametrize(("provider", "family"), [("", "llama"), ("openai", None)])
async def test_a_model_without_names_is_refused(provider: Any, family: Any) -> None:
    agent = Agent("careless")

    @agent.skill
    async def work(*, ctx: Context) -> str:
        ctx.served_by(provider=provider, family=family)
        return "done"

    with pytest.raises(TaskFailed, match="a model's identity cannot be sent"):
        await ask(agent)


@pytest.mark.parametrize("output", [HALF, [HALF]])
async def test_an_output_that_json_cannot_carry_breaks_the_contract(output: Any) -> None:
    agent = Agent("careless")

    async def work() -> Any:
        return output

    if isinstance(output, str):
        work.__annotations__["return"] = str
    agent.add_skill("work", work)
    with pytest.raises(TaskFailed, match="INVALID_OUTPUT"):
        await ask(agent)


async def test_a_reason_that_is_not_valid_does_not_cost_the_answer() -> None:
    agent = Agent("careless")

    @agent.skill
    async def work(*, ctx: Context) -> str:
        ctx.reason = "x" * 5000
        ctx.candidates = ["careless"]
        return "done"

    result = await ask(agent)
    assert result.value == "done"
    assert result.receipt.agent == "careless"
    assert result.receipt.reason is msgspec.UNSET


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RemoteError("wait", code="OVERLOADED", retry_after=1e7), "Retry after 86400 s"),
        (RemoteError("wait", code="OVERLOADED", retry_after=-1), "Retry after 0 s"),
        (RemoteError("odd", code="mine"), "mine: odd"),
        (RemoteError("odd", details={"what": object()}), "INTERNAL: odd"),
        (RemoteError(7), "INTERNAL"),  # type: ignore[arg-type]
        (ValueError(HALF), r"half \? a character"),
    ],
)
async def test_an_error_that_cannot_be_told_as_it_is_is_told_in_words(
    error: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent("careless")

    @agent.skill
    async def work() -> str:
        raise error

    with pytest.raises(TaskFailed, match=words):
        await ask(agent)
    # A log that is written to a file would lose what UTF-8 cannot carry.
    caplog.text.encode()


@pytest.mark.parametrize("thread", [False, True])
async def test_a_skill_that_exits_fails_its_task_and_not_the_agent(thread: bool) -> None:
    agent = Agent("careless")

    async def leave() -> str:
        sys.exit(3)

    def leave_in_a_thread() -> str:
        sys.exit(3)

    agent.add_skill("work", leave_in_a_thread if thread else leave)
    with pytest.raises(TaskFailed, match="SystemExit: 3"):
        await ask(agent)
