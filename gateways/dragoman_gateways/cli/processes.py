"""One agent as a child process: started, heard, and ended without leaving anything behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from dragoman_gateways.cli.lifeline import LIFELINE_VARIABLE

__all__ = ["ChildProcess", "ProcessEvent", "dragoman_command"]

LINE_LIMIT = 1024 * 1024
KILL_SECONDS = 2.0


class ProcessEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened to a child; ``label`` names it.

    ``ready`` carries agent and instance, ``log`` a line in ``text``, ``ended`` the exit code
    (negative: the signal), ``waiting`` the seconds until the next start.
    """

    kind: Literal["started", "ready", "log", "ended", "waiting", "gave-up"]
    label: str
    pid: int = 0
    agent: str = ""
    instance: str = ""
    text: str = ""
    exit_code: int | None = None
    seconds: float = 0.0


Listener = Callable[[ProcessEvent], None]


class _Ready(msgspec.Struct, tag_field="event", tag="ready"):
    agent: str
    instance: str
    pid: int


class _Failure(msgspec.Struct):
    code: str
    message: str


class _Failed(msgspec.Struct, tag_field="event", tag="error"):
    error: _Failure


def dragoman_command(*arguments: str) -> list[str]:
    """This very ``dragoman`` as a command, whatever is on ``PATH``."""
    return [sys.executable, "-m", "dragoman_gateways.cli", *arguments]


@dataclass(kw_only=True)
class ChildProcess:
    """One run of a command.

    Attributes:
        label: Its name in events.
        command: Program and arguments.
        environment: The whole environment.
        listener: Told everything; it may not block.
    """

    label: str
    command: Sequence[str]
    environment: dict[str, str]
    listener: Listener
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    async def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only the parent."""
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment | {LIFELINE_VARIABLE: "1"},
            start_new_session=True,
            limit=LINE_LIMIT,
        )
        self._tell("started")

    async def wait(self) -> int:
        """Pass on what it says until it ends; returns its exit code, negative for a signal."""
        process = self._running()
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(
            self._hear(process.stdout, self._statement), self._hear(process.stderr, self._log)
        )
        code = await process.wait()
        self._tell("ended", exit_code=code)
        return code

    def terminate(self) -> None:
        """Ask it to drain and end (SIGTERM)."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._send(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)

    async def end(self, grace: float) -> None:
        """Drain it, and kill it when it still runs after ``grace`` seconds."""
        process = self._running()
        self.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            self.kill()
            await asyncio.wait_for(process.wait(), KILL_SECONDS)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the process was not started")
        return self._process

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._running().send_signal(number)

    async def _hear(self, stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                take("(a line too long to show)")
                continue
            if not line:
                return
            take(line.decode(errors="replace").rstrip())

    def _statement(self, line: str) -> None:
        try:
            statement = msgspec.json.decode(line, type=_Ready | _Failed)
        except msgspec.DecodeError:
            self._log(line)
            return
        if isinstance(statement, _Ready):
            self._tell("ready", agent=statement.agent, instance=statement.instance)
        else:
            self._log(f"{statement.error.message} ({statement.error.code})")

    def _log(self, line: str) -> None:
        self._tell("log", text=line)

    def _tell(
        self,
        kind: Literal["started", "ready", "log", "ended"],
        *,
        agent: str = "",
        instance: str = "",
        text: str = "",
        exit_code: int | None = None,
    ) -> None:
        self.listener(
            ProcessEvent(
                kind=kind,
                label=self.label,
                pid=self.pid,
                agent=agent,
                instance=instance,
                text=text,
                exit_code=exit_code,
            )
        )
