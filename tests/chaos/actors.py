"""The processes of a chaos run: workers, supervisors and callers, forked from one warm parent."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from contextlib import AsyncExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dragoman_agents import serving
from dragoman_bus.client import Bus
from dragoman_bus.durable import DurableSettings
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.supervisor import supervising
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from tests.chaos.workload import Order, chaos_agent, helping_agent

__all__ = ["ACK_WAIT_SECONDS", "DEADLINE_SECONDS", "Actor", "accepted_in", "settings_for"]

ACK_WAIT_SECONDS = 2.0
DEADLINE_SECONDS = 240.0

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


def settings_for(replicas: int) -> DurableSettings:
    """The limits of a chaos run: short waits, on disk."""
    return DurableSettings(ack_wait=ACK_WAIT_SECONDS, replicas=replicas)


class Actor:
    """One role, in a process that is started again after each kill.

    Args:
        role: ``worker``, ``supervisor`` or ``caller``.
        url: The server, perhaps behind a proxy.
        arguments: For the role.
    """

    def __init__(self, role: str, url: str, *arguments: Any) -> None:
        self.role = role
        self.url = url
        self._arguments = arguments
        self._process: BaseProcess | None = None

    @property
    def process_id(self) -> int:
        """Of the present process; 0 before the first."""
        return (self._process.pid if self._process else None) or 0

    @property
    def running(self) -> bool:
        """Whether the process lives; a caller ends when all its orders are accepted."""
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Start the process."""
        self._process = _processes.Process(
            target=_main, args=(self.role, self.url, self._arguments), daemon=True
        )
        self._process.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one to a process that is gone does nothing."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process_id, number)

    def kill(self) -> None:
        """Kill -9, and wait for the end."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.join(5.0)

    def ask_to_leave(self, seconds: float) -> None:
        """SIGTERM, and kill -9 when it is not gone some time later."""
        self.signal(signal.SIGTERM)
        if self._process is not None:
            self._process.join(seconds)
        self.kill()


def _main(role: str, url: str, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    asyncio.run(_until_asked_to_leave(role, url, arguments))


def _end_with_the_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)


async def _until_asked_to_leave(role: str, url: str, arguments: tuple[Any, ...]) -> None:
    roles = {"worker": _work, "supervisor": _supervise, "caller": _call}
    work = asyncio.ensure_future(roles[role](url, *arguments))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _connect(url: str) -> NatsTransport:
    while True:
        try:
            return await NatsTransport.connect(NatsOptions.from_url(url))
        except DragomanError:
            await asyncio.sleep(0.2)


async def _work(url: str) -> None:
    transport = await _connect(url)
    while True:
        try:
            async with AsyncExitStack() as stack:
                for agent in (chaos_agent(), helping_agent()):
                    await stack.enter_async_context(
                        serving(
                            agent,
                            transport,
                            lease_seconds=3.0,
                            grace_seconds=0.5,
                            ack_wait=ACK_WAIT_SECONDS,
                        )
                    )
                # Asked to leave, it drains, which a cancellation through ``serving`` would not.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                return
        except DragomanError:
            await asyncio.sleep(0.2)


async def _supervise(url: str, replicas: int) -> None:
    transport = await _connect(url)
    while True:
        try:
            async with supervising(
                transport, settings_for(replicas), cancel_grace_seconds=3.0, lease_seconds=2.0
            ):
                await asyncio.Event().wait()
        except DragomanError:
            await asyncio.sleep(0.2)


async def _call(url: str, journal: Path, orders: list[Order], pace: float) -> None:
    """Submit every order that the journal does not have, and note each one that was accepted."""
    transport = await _connect(url)
    with journal.open("ab", buffering=0) as notes:
        while True:
            # Opening the bus fails as well when the server is away at that moment.
            with contextlib.suppress(DragomanError):
                async with Bus(transport) as bus:
                    done = accepted_in(journal)
                    for order in orders:
                        if order.task_id not in done:
                            await _submit(bus, order)
                            notes.write(f"{order.task_id}\n".encode())
                            await asyncio.sleep(pace)
                    return
            await asyncio.sleep(0.2)


async def _submit(bus: Bus, order: Order) -> None:
    while True:
        try:
            await bus.submit(
                order.kind,
                order.input,
                agent=order.agent,
                class_=order.class_,
                task_id=order.task_id,
                delivery="durable",
                deadline=DEADLINE_SECONDS,
                maximum_attempts=order.maximum_attempts,
                context_id=order.context_id,
                ordered=order.ordered,
            )
            return
        except DragomanError:
            await asyncio.sleep(0.1)


def accepted_in(journal: Path) -> set[str]:
    """The ids of the tasks that a caller saw accepted."""
    if not journal.exists():
        return set()
    # A kill may have torn the last line.
    lines = journal.read_bytes().split(b"\n")[:-1]
    return {line.decode() for line in lines}
