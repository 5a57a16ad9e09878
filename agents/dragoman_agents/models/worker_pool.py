"""Calls to child processes, one JSON document per line each way, for libraries that block Python.

A library that holds the interpreter lock while it computes freezes every thread of its process,
event loop included; in a process of its own it freezes nothing, and its crash is one failed call.
A worker answers a call with lines, the last of which has ``"end": true``. ``{"stop": id}`` asks it
to end a call early; one that does not is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any

__all__ = ["WorkerDied", "WorkerPool"]

STOP_SECONDS = 5.0
LONGEST_LINE = 1 << 20


class WorkerDied(Exception):
    """The child process ended in the middle of a call."""


class WorkerPool:
    """At most ``slots`` worker processes, started when they are needed and kept.

    Args:
        command: The program and its arguments.
        slots: How many calls at once.
    """

    def __init__(self, command: Sequence[str], slots: int) -> None:
        self._command = tuple(command)
        self._free = asyncio.Semaphore(slots)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    @property
    def processes(self) -> tuple[int, ...]:
        """The ids of the workers' processes."""
        return tuple(sorted(worker.process.pid for worker in self._workers))

    @property
    def busy(self) -> int:
        """How many workers compute now, those that were told to stop included."""
        return len(self._workers) - len(self._idle)

    async def call(self, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The lines that answer ``request``, the last included; leaving early stops the work.

        Raises:
            WorkerDied: the process ended instead of answering.
            OSError: the program cannot be started.
        """
        await self._free.acquire()
        number, worker, ended = next(self._numbers), None, False
        try:
            worker = self._idle.pop() if self._idle else await self._start()
            await worker.send({**request, "id": number})
            while not ended:
                answer = await worker.receive()
                ended = answer.get("end", False)
                yield answer
        finally:
            self._leave(worker, number, ended=ended)

    async def aclose(self) -> None:
        """End all workers."""
        for worker in tuple(self._workers):
            await self._end(worker)
        if self._stopping:
            await asyncio.wait(tuple(self._stopping))

    async def _start(self) -> _Worker:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=nothing, limit=LONGEST_LINE
        )
        worker = _Worker(process)
        self._workers.add(worker)
        return worker

    def _leave(self, worker: _Worker | None, number: int, *, ended: bool) -> None:
        if worker is None:
            self._free.release()
        elif ended:
            self._idle.append(worker)
            self._free.release()
        else:
            task = asyncio.create_task(self._stop(worker, number))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _stop(self, worker: _Worker, number: int) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await worker.send({"stop": number})
                while not (await worker.receive()).get("end", False):
                    pass
        except (TimeoutError, WorkerDied):
            await self._end(worker)
        else:
            if worker in self._workers:
                self._idle.append(worker)
        finally:
            self._free.release()

    async def _end(self, worker: _Worker) -> None:
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        await worker.end()


class _Worker:
    """One process and its two pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            await self.process.stdin.drain()
        except OSError:
            raise WorkerDied(await self._how()) from None

    async def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise WorkerDied(await self._how())
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def end(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()

    async def _how(self) -> str:
        code = await self.process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"
