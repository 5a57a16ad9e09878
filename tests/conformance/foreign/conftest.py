"""A real server, and the programs of examples/other-languages run by Node."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dragoman_bus import Bus
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from tests.conformance.agent_rules.raw_caller import RawCaller

ROOT = Path(__file__).parents[3]
PROGRAMS = ROOT / "examples" / "other-languages"


@pytest.fixture(scope="session")
def programs() -> Path:
    """The programs with the packages they need, installed once for all runs."""
    # As deep below the root as the originals, so that they find the schemas where they look.
    home = ROOT / ".cache" / "other-languages"
    home.mkdir(parents=True, exist_ok=True)
    wanted = (PROGRAMS / "package.json").read_text(encoding="utf-8")
    installed = home / "installed.json"
    for program in PROGRAMS.glob("*.mjs"):
        shutil.copy(program, home)
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        shutil.copy(PROGRAMS / "package.json", home)
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=home, check=True, timeout=300)
        installed.write_text(wanted, encoding="utf-8")
    return home


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server for the programs and for ours; who was killed in one test is not in another's."""
    with NatsServer(tmp_path / "nats") as running:
        yield running


class Node:
    """Programs that Node runs against the server; whatever still runs is killed at the end."""

    def __init__(self, home: Path, server: NatsServer) -> None:
        self.home = home
        self.server = server
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        """Start a program and wait for its first line."""
        process = await self._run(program, *arguments)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line, await self._failure(process)
        return process

    async def call(self, *arguments: str) -> tuple[int, str, str]:
        """Run the caller to its end: exit code, output, errors."""
        process = await self._run("caller.mjs", *arguments)
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, output.decode().rstrip("\n"), errors.decode()

    async def stop(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()

    async def _run(self, program: str, *arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            "node", self.home / program, self.server.url, *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        self._processes.append(process)
        return process

    async def _failure(self, process: asyncio.subprocess.Process) -> str:
        _, errors = await process.communicate()
        return errors.decode()


@pytest.fixture
async def node(programs: Path, server: NatsServer) -> AsyncIterator[Node]:
    """Runs programs."""
    made = Node(programs, server)
    yield made
    await made.stop()


@pytest.fixture
async def connected(server: NatsServer) -> AsyncIterator[AsyncExitStack]:
    """Holds what a test opens."""
    async with AsyncExitStack() as stack:
        yield stack


async def connection(server: NatsServer, stack: AsyncExitStack) -> NatsTransport:
    """A connection of ours."""
    transport = await NatsTransport.connect(NatsOptions.from_url(server.url))
    stack.push_async_callback(transport.close)
    return transport


@pytest.fixture
async def bus(server: NatsServer, connected: AsyncExitStack) -> Bus:
    """Our caller."""
    return await connected.enter_async_context(Bus(await connection(server, connected)))


@pytest.fixture
async def caller(server: NatsServer, connected: AsyncExitStack) -> AsyncIterator[RawCaller]:
    """A raw caller; whatever it was sent must have been valid."""
    raw = await RawCaller(await connection(server, connected)).start()
    yield raw
    assert raw.invalid == []
