"""The setting of the demo: a server, four agents in processes of their own, a tap that records."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence, Set
from dataclasses import dataclass, field

from dragoman_bus.client import Bus, connect
from dragoman_bus.durable import DurableSettings
from dragoman_bus.protocol.errors import LocalError
from dragoman_bus.registry.view import AgentView
from dragoman_bus.server import NatsServer
from dragoman_bus.supervisor import supervising
from dragoman_bus.transports.port import Delivery
from dragoman_gateways.cli.processes import ProcessEvent
from dragoman_gateways.cli.supervising import Program, RestartPolicy, Supervisor
from dragoman_gateways.cli.tap import tap

__all__ = ["Stage", "open_stage"]

READY_SECONDS = 30.0
DRAIN_SECONDS = 5.0
SETTLE_SECONDS = 0.2
POLL_SECONDS = 0.02
# So that nobody waits half a minute for a worker that was killed before their eyes.
DURABLE = DurableSettings(ack_wait=3.0, log_bytes=2**26, queue_bytes=2**24, artifact_bytes=2**24)


@dataclass
class Stage:
    """What the demo runs on.

    Attributes:
        server: The nats-server.
        bus: A caller on it.
        pids: Process ids by instance.
        recorded: Every Dragoman message that passed, as it was on the wire.
        logs: The last lines that the agents' processes wrote.
    """

    server: NatsServer
    bus: Bus
    pids: dict[str, int] = field(default_factory=dict)
    recorded: list[Delivery] = field(default_factory=list)
    logs: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    _stops: list[asyncio.Event] = field(default_factory=list)
    _running: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, programs: Sequence[Program]) -> None:
        """Start agents; ``wait_for`` tells when they are there."""
        stop = asyncio.Event()
        supervisor = Supervisor(
            programs, dict(os.environ), self._hear, RestartPolicy(drain_seconds=DRAIN_SECONDS)
        )
        self._stops.append(stop)
        self._running.append(asyncio.create_task(supervisor.run(stop)))

    async def wait_for(self, skills: set[str]) -> list[AgentView]:
        """The agents, once the registry shows all ``skills`` and every process has reported.

        Raises:
            LocalError: they did not come in time; the message ends with what they wrote.
        """

        def complete(views: list[AgentView]) -> bool:
            return skills <= {skill for view in views for skill in view.skills}

        return await self._wait(complete)

    async def wait_for_agents(self, names: Set[str]) -> list[AgentView]:
        """The agents, once the registry shows all of these too.

        Raises:
            LocalError: they did not come in time.
        """
        return await self._wait(lambda views: names <= {view.name for view in views})

    async def wait_for_replicas(self, name: str, number: int) -> list[AgentView]:
        """The agents, once this one has as many instances.

        Raises:
            LocalError: they did not come in time.
        """
        return await self._wait(
            lambda views: any(view.name == name and len(view.instances) >= number for view in views)
        )

    async def _wait(self, condition: Callable[[list[AgentView]], bool]) -> list[AgentView]:
        """Wait until the condition holds and every instance's process has reported its pid."""
        directory = await self.bus.directory()
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    views = directory.agents()
                    found = {lease.instance for view in views for lease in view.instances}
                    if condition(views) and found <= self.pids.keys():
                        return views
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            wrote = " | ".join(self.logs) or "they wrote nothing"
            raise LocalError(
                f"the agents were not on the bus within {READY_SECONDS:g} s: {wrote}"
            ) from None

    async def end_agents(self) -> None:
        """Drain all agents, and wait until their processes have ended."""
        for stop in self._stops:
            stop.set()
        await asyncio.gather(*self._running)

    async def kill_agents(self) -> None:
        """End them at once; nothing happens when they have ended."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _hear(self, event: ProcessEvent) -> None:
        if event.kind == "ready":
            self.pids[event.instance] = event.pid
        elif event.kind == "log":
            self.logs.append(f"{event.label}: {event.text}")


@contextlib.asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """A server on a free port, with a tap from the first message on; leaves nothing behind."""
    async with (
        NatsServer() as server,
        connect(server.url, name="demo") as bus,
        supervising(bus.transport, DURABLE),
    ):
        stage = Stage(server=server, bus=bus)
        await bus.directory()
        async with tap(bus.transport) as deliveries:

            async def record() -> None:
                async for delivery in deliveries:
                    stage.recorded.append(delivery)

            recording = asyncio.create_task(record())
            try:
                yield stage
                await bus.transport.flush()
                await asyncio.sleep(SETTLE_SECONDS)
            finally:
                await stage.kill_agents()
                recording.cancel()
                await asyncio.gather(recording, return_exceptions=True)
