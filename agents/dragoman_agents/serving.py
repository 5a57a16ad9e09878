"""Serves an agent on the bus until it is told to stop.

Spec: spec/operations.md, drain. ``serving`` is for programs and tests, ``serve`` for processes:
SIGTERM and SIGINT drain (finish, say goodbye), a second signal leaves at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from dragoman_agents.agent import Agent
from dragoman_agents.execution import SkillRunner
from dragoman_bus.client import Bus
from dragoman_bus.permissions import inbox_prefix
from dragoman_bus.protocol.errors import BusUnavailable, LocalError
from dragoman_bus.service import Instance, InstanceLimits, Serving, Worker
from dragoman_bus.transports.port import Transport

__all__ = ["DEFAULT_GRACE_SECONDS", "DEFAULT_LEASE_SECONDS", "StoppedEarly", "serve", "serving"]

logger = logging.getLogger("dragoman.agents")

DEFAULT_GRACE_SECONDS = 30.0
DEFAULT_LEASE_SECONDS = 10.0
DEFAULT_ACK_WAIT_SECONDS = 30.0
"""That of the queues (``DurableSettings.ack_wait``), or less."""


class StoppedEarly(LocalError):
    """The agent was told to stop before it was served."""

    default_code = "CANCELED"


@asynccontextmanager
async def serving(
    agent: Agent,
    transport: Transport,
    *,
    lease_seconds: float = DEFAULT_LEASE_SECONDS,
    grace_seconds: float = DEFAULT_GRACE_SECONDS,
    ack_wait: float = DEFAULT_ACK_WAIT_SECONDS,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Instance]:
    """Serve ``agent`` over a connected transport while the context is open, then drain.

    Its stop hooks run at the end. ``stop`` ends a start that waits for others.

    Raises:
        NotConfigured: the agent has no skill.
        StoppedEarly: ``stop`` was set before the agent was announced.
        BusUnavailable: the server has no JetStream, or refuses a subject.
    """
    limits = InstanceLimits(slots=agent.concurrency, queue=agent.queue, lease_seconds=lease_seconds)
    async with agent.open(), Bus(transport, name=agent.name[:50]) as bus:
        await _unless_stopped(agent.start(bus), stop)
        announce = agent.announcement()
        threads = ThreadPoolExecutor(agent.concurrency, thread_name_prefix=f"dragoman-{agent.name}")
        runner = SkillRunner(agent, bus, threads)
        instance = Instance(transport, announce, runner, limits)
        runner.instance = instance
        served = Serving(transport, instance)
        worker = _worker(transport, instance, ack_wait)
        try:
            await served.start()
            if worker is not None:
                await worker.start()
            yield instance
            asked = instance.drain_grace
            if worker is not None:
                await worker.pause()
            await served.drain(grace_seconds if asked is None else asked)
        finally:
            if worker is not None:
                await worker.pause()
            await served.stop()
            if worker is not None:
                await worker.stop()
            threads.shutdown(wait=False, cancel_futures=True)


def _worker(transport: Transport, instance: Instance, ack_wait: float) -> Worker | None:
    """What takes durable tasks; nothing where the bus has no streams."""
    try:
        return Worker(transport, instance, ack_wait=ack_wait)
    except BusUnavailable as error:
        logger.debug("only direct tasks: %s", error)
        return None


async def _unless_stopped(starting: Coroutine[Any, Any, None], stop: asyncio.Event | None) -> None:
    """Start the agent, which may wait for others as long as it takes."""
    if stop is None:
        await starting
        return
    started = asyncio.ensure_future(starting)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({started, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            raise StoppedEarly("stopped while the agent was starting")
        started.result()
    finally:
        for future in (started, stopped):
            future.cancel()
        await asyncio.gather(started, stopped, return_exceptions=True)


async def serve(
    agent: Agent,
    server: str | None = None,
    *,
    lease_seconds: float = DEFAULT_LEASE_SECONDS,
    grace_seconds: float = DEFAULT_GRACE_SECONDS,
    ack_wait: float = DEFAULT_ACK_WAIT_SECONDS,
) -> None:
    """Serve ``agent`` at a nats-server until SIGTERM, SIGINT, or an operator's drain.

    Args:
        agent: The agent.
        server: URL; default ``NATS_URL``, else ``nats://127.0.0.1:4222``.
        lease_seconds: How long after a kill the registry still lists the instance.
        grace_seconds: How long running tasks may take to finish when it leaves.
        ack_wait: Seconds after which a durable task of a dead worker goes to another one.

    Raises:
        BusUnavailable: nobody answers there.
    """
    from dragoman_bus.transports.nats import connect_nats

    stop = asyncio.Event()
    with _signals(stop):
        transport = await connect_nats(
            server, name=agent.name, inbox_prefix=inbox_prefix(agent.name)
        )
        try:
            async with serving(
                agent,
                transport,
                lease_seconds=lease_seconds,
                grace_seconds=grace_seconds,
                ack_wait=ack_wait,
                stop=stop,
            ) as instance:
                logger.info("agent %s serves as %s", agent.name, instance.id)
                waits = [
                    asyncio.create_task(stop.wait()),
                    asyncio.create_task(instance.drain_requested.wait()),
                ]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
        except StoppedEarly:
            return
        finally:
            await transport.close()


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """The first signal sets ``stop``; the second has its usual effect, which ends the process."""
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        stop.set()
        for number in handled:
            loop.remove_signal_handler(number)

    for number in handled:
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
