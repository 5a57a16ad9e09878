"""``dragoman ask`` against agents in another process: streams, questions, interrupts, refusals."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragoman_bus.server import NatsServer
from dragoman_gateways.cli.exit_codes import ExitCode
from tests.integration.cli.programs import run, start

pytestmark = pytest.mark.anyio

AGENT = """
import asyncio
from collections.abc import AsyncIterator
from dragoman_agents import Agent, Context

agent = Agent("tortoise", description="Takes its time")

@agent.skill
async def crawl(text: str) -> AsyncIterator[str]:
    while True:
        yield text
        await asyncio.sleep(0.05)

@agent.skill
async def book(text: str, *, ctx: Context) -> str:
    return await ctx.ask("Which day?")

@agent.skill
async def allowance(text: str, *, ctx: Context) -> str:
    left = ctx.remaining_cost
    return f"{left.amount} {left.currency}, {ctx.remaining_tokens} tokens, {ctx.context_id}"

@agent.skill
async def trip(text: str) -> str:
    raise RuntimeError("over a stone")
"""


@pytest.fixture
async def server(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[str]:
    """A bus with the tortoise on it."""
    file = tmp_path / "tortoise.py"
    file.write_text(AGENT)
    arguments = ("run", f"{file}:agent", "--server", nats_server.url, "--json")
    async with start(*arguments) as program:
        await program.line(lambda line: line["event"] == "ready")
        yield nats_server.url
        await program.end(signal.SIGTERM)


async def test_an_interrupt_cancels_the_task(server: str) -> None:
    async with start("ask", "crawl", "on ", "--json", "--server", server) as program:
        await program.line(lambda line: line["event"] == "artifact")

        code = await program.end(signal.SIGINT)

    assert code == ExitCode.INTERRUPTED


async def test_a_canceled_task_is_the_last_line(server: str) -> None:
    async with start("ask", "crawl", "on ", "--json", "--server", server) as program:
        await program.line(lambda line: line["event"] == "artifact")
        program.process.send_signal(signal.SIGINT)
        line = await program.line(lambda line: line["event"] == "canceled")

    assert line["state"] == "TASK_STATE_CANCELED"


async def test_a_question_without_a_terminal_is_told_with_the_question(server: str) -> None:
    code, output, errors = await run("ask", "book", "a table", "--server", server)

    assert (code, output) == (ExitCode.TASK_FAILED, "")
    assert "Which day?" in errors


async def test_a_failed_task_tells_why_and_shows_no_traceback(server: str) -> None:
    code, output, errors = await run("ask", "trip", "x", "--server", server)

    assert (code, output) == (ExitCode.TASK_FAILED, "")
    assert "over a stone" in errors
    assert "Traceback" not in errors


async def test_a_deadline_has_its_own_exit_code(server: str) -> None:
    code, _, _ = await run("ask", "crawl", "on ", "--deadline", "0.5", "--server", server)

    assert code == ExitCode.DEADLINE


async def test_a_skill_nobody_has_is_refused_with_what_there_is(server: str) -> None:
    code, output, _ = await run("ask", "fly", "x", "--json", "--server", server)

    document = json.loads(output.splitlines()[-1])
    assert code == document["exitCode"] == ExitCode.NO_AGENT
    assert "crawl" in document["error"]["details"]["skills"]


async def test_no_server_has_its_own_exit_code() -> None:
    code, output, errors = await run("ask", "echo", "x", "--server", "nats://127.0.0.1:1")

    assert (code, output) == (ExitCode.BUS_UNAVAILABLE, "")
    assert "dragoman up" in errors


async def test_limits_and_context_go_with_the_task(server: str) -> None:
    limits = ("--max-cost", "0.02USD", "--max-tokens", "500", "--context", "talk")
    code, output, _ = await run("ask", "allowance", "x", *limits, "--server", server)

    assert (code, output.strip()) == (ExitCode.OK, "0.02 USD, 500 tokens, talk")
