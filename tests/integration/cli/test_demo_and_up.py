"""The demo and ``dragoman up``: real processes that start, work, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from dragoman_bus.server import NatsServer
from dragoman_gateways.cli.exit_codes import ExitCode
from tests.integration.cli.programs import EXAMPLES, Program, exists, run, start
from tests.support.openai_server import Failure, OpenAIServer, Reply

pytestmark = pytest.mark.anyio


Demos = dict[str, tuple[int, str, str]]


@pytest.fixture(scope="module")
def demos() -> Demos:
    """What demos said: one without a model, one with a model, one whose model fails.

    They run side by side, since each waits most of its time.
    """
    return asyncio.run(run_demos())


async def run_demos() -> Demos:
    quota = {"message": "no quota", "code": "insufficient_quota", "type": "insufficient_quota"}
    async with OpenAIServer() as working, OpenAIServer() as failing:
        working.answer_with(Reply(pieces=("Matin ", "au marché\n")))
        failing.answer_with(*[Failure(429, quota)] * 8)
        ended = await asyncio.gather(
            run("demo"), run("demo", **key_for(working)), run("demo", **key_for(failing))
        )
    return dict(zip(("plain", "working", "failing"), ended, strict=True))


def key_for(model: OpenAIServer) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": model.base_url}


async def test_the_demo_ends_with_0_and_leaves_nothing_running(demos: Demos) -> None:
    code, output, errors = demos["plain"]

    assert code == ExitCode.OK, errors
    assert re.search(r"[1-9][0-9]* messages, 0 violations", output)
    assert "language model" in output
    assert re.search(r"mistaught +says “science”", output)
    assert "2 of 3 agree; mistaught said something else" in output
    assert "mistaught 0.0" in output
    pids = [int(pid) for pid in re.findall(r"pid ([0-9]+)", output)]
    assert len(set(pids)) >= 5
    assert [pid for pid in pids if exists(pid)] == []


async def test_the_demo_uses_a_model_that_it_finds_and_says_so(demos: Demos) -> None:
    code, output, errors = demos["working"]

    assert code == ExitCode.OK, errors
    assert "│ Matin au marché" in output
    assert "A language model translated" in output
    assert "sk-" not in output + errors


async def test_the_demo_says_that_a_model_failed_and_goes_on_without_it(demos: Demos) -> None:
    code, output, errors = demos["failing"]

    assert code == ExitCode.OK, errors
    assert "the model did not translate" in output
    assert "│ Marché matin" in output
    assert "0 violations" in output


async def test_an_interrupted_demo_leaves_nothing_running() -> None:
    async with start("demo") as program:
        assert program.process.stdout is not None
        text = ""
        async with asyncio.timeout(30):
            while "The tasks" not in text:
                text += (await program.process.stdout.readline()).decode()
        code = await program.end(signal.SIGINT)

    # It may have been quicker than the signal.
    assert code in (ExitCode.INTERRUPTED, ExitCode.OK)
    pids = re.findall(r"pid ([0-9]+)|^   [a-z]+ +([0-9]+) ", text, re.MULTILINE)
    found = [int(first or second) for first, second in pids]
    assert len(found) >= 5
    assert [pid for pid in found if exists(pid)] == []


def joined(agent: str) -> Any:
    return lambda line: line["event"] == "process.ready" and line["process"]["agent"] == agent


async def start_all(program: Program) -> tuple[str, list[int]]:
    """The bus's address, and the pids of everything, once all five processes are ready."""
    bus = await program.line(lambda line: line["event"] == "status" and line["who"] == "bus")
    pids = [bus["pid"]]
    while len(pids) < 6:
        line = await program.line(lambda line: line["event"] == "process.ready")
        pids.append(line["process"]["pid"])
    return bus["url"], pids


def up(directory: Path) -> Any:
    return start(
        *("--config", str(EXAMPLES / "dragoman.toml"), "up", "--port", "0", "--json"),
        *("--data-directory", str(directory / "data")),
    )


async def test_up_serves_every_agent_and_a_signal_ends_them_all(tmp_path: Path) -> None:
    async with up(tmp_path) as program:
        url, pids = await start_all(program)
        code, output, _ = await run("ask", "report", "Ada was born in 1815.", "--server", url)

        assert code == ExitCode.OK
        assert json.loads(output)["findings"]["numbers"] == ["1815"]
        assert await program.end(signal.SIGTERM) == ExitCode.OK
    assert [pid for pid in pids if exists(pid)] == []


async def test_up_starts_a_killed_agent_again(tmp_path: Path) -> None:
    async with up(tmp_path) as program:
        _, pids = await start_all(program)
        ready = next(line for line in program.lines if joined("classifier")(line))
        os.kill(ready["process"]["pid"], signal.SIGKILL)

        again = await program.line(joined("classifier"))

        assert again["process"]["pid"] not in pids
        assert await program.end(signal.SIGTERM) == ExitCode.OK


async def test_up_tells_in_words_why_an_agent_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "dragoman.toml").write_text('[[agents]]\nmodule = "empty.py"\n')
    configuration = str(tmp_path / "dragoman.toml")

    code, output, errors = await run(
        *("--config", configuration, "up", "--port", "0"),
        *("--data-directory", str(tmp_path / "data")),
    )

    assert code == ExitCode.USAGE
    assert re.search(r"^empty: say which agent of .*\(NOT_CONFIGURED\)$", errors, re.MULTILINE)
    assert "{" not in errors + output
    assert re.search(r"^[0-9:]+  empty +process [0-9]+ started$", output, re.MULTILINE)


def arguments_of(pid: int) -> str:
    """What everybody on this machine may read of a process; nothing where there is no /proc."""
    file = Path(f"/proc/{pid}/cmdline")
    return file.read_text() if file.exists() else ""


async def test_up_shows_nobody_the_password_of_a_server_that_runs_elsewhere(tmp_path: Path) -> None:
    login = "authorization { user: me, password: s3cret-word }"
    (tmp_path / "dragoman.toml").write_text(f'[[agents]]\nmodule = "{EXAMPLES}/echo.py:agent"\n')
    async with NatsServer(tmp_path / "nats", extra_configuration=login) as server:
        url = server.url.replace("nats://", "nats://me:s3cret-word@")
        async with start(
            *("--config", str(tmp_path / "dragoman.toml"), "up", "--json"), NATS_URL=url
        ) as program:
            ready = await program.line(lambda line: line["event"] == "process.ready")
            assert "s3cret-word" not in arguments_of(ready["process"]["pid"])
            assert await program.end(signal.SIGTERM) == ExitCode.OK
        assert server.url in json.dumps(program.lines)
        assert "s3cret-word" not in json.dumps(program.lines)


async def test_live_validation_of_real_traffic_finds_no_violation(tmp_path: Path) -> None:
    async with up(tmp_path) as program:
        url, _ = await start_all(program)
        async with start("validate", "--live", "--json", "--server", url) as live:
            await live.line(lambda line: line["event"] == "listening")
            for skill in ("report", "count", "translate"):
                code, _, _ = await run("ask", skill, "Ada wrote.", "--server", url)
                assert code == ExitCode.OK
            live.process.send_signal(signal.SIGINT)
            summary = await live.line(lambda line: line["event"] == "summary")

        assert summary["violations"] == 0
        # The report's own, and two that it delegated.
        assert summary["types"]["dev.dragoman.task.submit"] == 5
        assert summary["types"]["dev.dragoman.task.final"] == 5
        await program.end(signal.SIGTERM)
