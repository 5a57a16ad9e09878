"""Supervision: processes that end are started again, later each time; a stop drains them all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.processes import ChildProcess, Listener, ProcessEvent

__all__ = ["Program", "RestartPolicy", "Supervisor"]


@dataclass(frozen=True, kw_only=True)
class Program:
    """Something to keep running.

    Attributes:
        label: Its name in events.
        command: Program and arguments.
        hidden: Variables of the environment that are none of its business: others' keys.
    """

    label: str
    command: Sequence[str]
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """When a process that ended is started again.

    Attributes:
        first_delay: Seconds before the first restart; doubled for each further one.
        longest_delay: Seconds it never exceeds.
        settled_after: Seconds of life after which the doubling starts anew.
        drain_seconds: How long a process may take to drain before it is killed.
    """

    first_delay: float = 0.5
    longest_delay: float = 30.0
    settled_after: float = 20.0
    drain_seconds: float = 30.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after the given number of failures in a row (1, 2, …)."""
        bound = min(self.longest_delay, self.first_delay * 2 ** min(failures - 1, 30))
        return random.uniform(bound / 2, bound)


class Supervisor:
    """Keeps programs running until ``run`` is told to stop.

    A process that ends with exit code 2 (usage or configuration) would end so again: it is not
    restarted until the user has changed something.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        environment: dict[str, str],
        listener: Listener,
        policy: RestartPolicy | None = None,
    ) -> None:
        self._programs = programs
        self._environment = environment
        self._listener = listener
        self._policy = policy or RestartPolicy()
        self.gave_up: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, and return when all has ended: after ``stop``, or all gave up."""
        async with asyncio.TaskGroup() as group:
            for program in self._programs:
                group.create_task(self._keep(program, stop))

    async def _keep(self, program: Program, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            started = time.monotonic()
            code = await self._once(program, stop)
            if stop.is_set():
                return
            if code == ExitCode.USAGE:
                self.gave_up.append(program.label)
                self._listener(ProcessEvent(kind="gave-up", label=program.label, exit_code=code))
                return
            settled = time.monotonic() - started >= self._policy.settled_after
            failures = 1 if settled else failures + 1
            delay = self._policy.delay(failures)
            self._listener(ProcessEvent(kind="waiting", label=program.label, seconds=delay))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), delay)

    async def _once(self, program: Program, stop: asyncio.Event) -> int:
        """One life of a process; drained when ``stop`` comes, killed when this is cancelled."""
        child = ChildProcess(
            label=program.label,
            command=program.command,
            environment={
                name: value
                for name, value in self._environment.items()
                if name not in program.hidden
            },
            listener=self._listener,
        )
        await child.start()
        ending = asyncio.ensure_future(child.wait())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                await child.end(self._policy.drain_seconds)
            return await ending
        finally:
            stopping.cancel()
            if not ending.done():
                child.kill()
                await ending
