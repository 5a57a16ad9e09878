"""``dragoman`` as a child process of a test: its output as JSON lines, and its end awaited."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
UNSET_VARIABLES = (
    "NATS_URL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "GEMINI_API_KEY",
    "GOOGLE_GEMINI_BASE_URL",
)
PATIENCE_SECONDS = 30.0


def environment(**more: str) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in UNSET_VARIABLES and not name.startswith("DRAGOMAN_")
    }
    return inherited | more


class Program:
    """A running ``dragoman``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def line(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next JSON line that fits; those before it are kept in ``lines``."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while text := await self.process.stdout.readline():
                document = json.loads(text)
                self.lines.append(document)
                if wanted(document):
                    return document
        raise AssertionError(f"it ended before the awaited line; it said: {self.lines}")

    async def end(self, signal_number: int) -> int:
        self.process.send_signal(signal_number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def start(*arguments: str, cwd: Path = ROOT, **variables: str) -> AsyncIterator[Program]:
    """``dragoman`` with arguments; killed at the end of the context if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dragoman_gateways.cli",
        *arguments,
        cwd=cwd,
        env=environment(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(*arguments: str, cwd: Path = ROOT, **variables: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a ``dragoman`` that ends by itself."""
    async with start(*arguments, cwd=cwd, **variables) as program:
        async with asyncio.timeout(100):
            output, errors = await program.process.communicate()
    assert program.process.returncode is not None
    return program.process.returncode, output.decode(), errors.decode()


def exists(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
