"""Every code block of README and docs runs, on a real server with the example agents.

A block after ``<!-- test: skip (reason) -->`` is left out; the reason is for the reader. Python
blocks run as programs, sh blocks line by line in a shell, toml blocks through the configuration.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dragoman_agents.configuration import load_configuration
from dragoman_bus.server import NatsServer

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PANEL = ("by_words", "by_likeness", "mistaught")
AGENTS = ("echo", "extract", "classify", "translate", "count", "recite")
BLOCK = re.compile(
    r"(?:<!-- test: skip \((?P<skip>[^)]+)\) -->\n)?"
    r"^```(?P<kind>python|sh|toml)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One code block."""

    page: str
    line: int
    kind: str
    text: str
    skip: str | None


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(content):
            line = content.count("\n", 0, match.start("text"))
            found.append(Block(page.name, line, match["kind"], match["text"], match["skip"]))
    return found


def name_of(block: Block) -> str:
    return f"{block.page}:{block.line}:{block.kind}"


RUNNABLE = [block for block in blocks() if block.skip is None]


@pytest.fixture(scope="module")
def environment(nats_server: NatsServer) -> Iterator[dict[str, str]]:
    """What the blocks run in: a supervised server with the example agents, the commands on PATH."""
    commands = Path(sys.executable).parent
    made = {
        **os.environ,
        "NATS_URL": nats_server.url,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    agents = [
        subprocess.Popen([commands / "dragoman", *arguments], env=made)
        for arguments in (
            ("supervise",),
            *(("run", str(ROOT / "examples" / f"{name}.py")) for name in AGENTS),
            *(("run", str(ROOT / "examples" / f"panel.py:{name}")) for name in PANEL),
            ("--config", str(ROOT / "examples" / "ensemble.toml"), "run", "panel"),
        )
    ]
    try:
        wait_until_all_are_there(commands, made)
        wait_for(("task", "list"), lambda _: True, commands, made)
        yield made
    finally:
        for agent in agents:
            agent.terminate()
        for agent in agents:
            agent.wait(20)


def wait_until_all_are_there(commands: Path, environment: dict[str, str]) -> None:
    """One program watches: asking again and again would cost more than the agents' start."""
    watching = subprocess.Popen(
        [commands / "dragoman", "ls", "--watch", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with watching:
        timer = threading.Timer(60, watching.kill)
        timer.start()
        assert watching.stdout is not None
        seen = next(
            (
                line
                for line in watching.stdout
                if len(json.loads(line)["agents"]) > len(AGENTS + PANEL)
            ),
            None,
        )
        timer.cancel()
        watching.kill()
    assert seen is not None, "not all example agents came to the bus"


def wait_for(
    command: tuple[str, ...],
    condition: Callable[[Any], bool],
    commands: Path,
    environment: dict[str, str],
) -> None:
    """Until a ``dragoman`` command succeeds and its answer fits."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answered = subprocess.run(
            [commands / "dragoman", *command, "--json"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if answered.returncode == 0 and condition(json.loads(answered.stdout)):
            return
    raise AssertionError(f"{command} never fitted: {answered.stdout}{answered.stderr}")


@pytest.mark.parametrize("block", [b for b in RUNNABLE if b.kind == "python"], ids=name_of)
def test_a_python_block_runs(block: Block, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "block.py").write_text(block.text)
    done = subprocess.run(
        [sys.executable, "block.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", [b for b in RUNNABLE if b.kind == "sh"], ids=name_of)
def test_a_shell_block_runs(block: Block, environment: dict[str, str], tmp_path: Path) -> None:
    for folder in ("examples", "schemas"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("block", [b for b in RUNNABLE if b.kind == "toml"], ids=name_of)
def test_a_toml_block_is_a_configuration(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "dragoman.toml"
    path.write_text(block.text)

    assert load_configuration(path, environment={}) is not None


def test_every_block_that_is_left_out_says_why() -> None:
    assert [name_of(block) for block in blocks() if block.skip is not None and not block.skip] == []
    assert len(RUNNABLE) >= 10
