"""The supervisor as a whole: makes the streams, waits for its turn to act, and then acts.

Spec: spec/durable.md, supervisor. It holds no state of its own: what it does follows from the logs,
so it may die at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from dragoman_bus.durable.layout import (
    ADVISORY_STREAM,
    LOG_STREAM,
    TIMER_STREAM,
    DurableSettings,
    make_streams,
)
from dragoman_bus.durable.store import LogStore
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.envelopes import Sender, client_source
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.subjects import PREFIX, REGISTRY_BUCKET, due_subject, log_subject
from dragoman_bus.supervisor.advisories import Advisories
from dragoman_bus.supervisor.controls import CANCEL_GRACE_SECONDS, Controls
from dragoman_bus.supervisor.intake import Intake
from dragoman_bus.supervisor.leadership import Leadership
from dragoman_bus.supervisor.queues import QueueMaker
from dragoman_bus.supervisor.room import LogRoom
from dragoman_bus.supervisor.timers import Timers
from dragoman_bus.supervisor.turns import Turns
from dragoman_bus.transports.port import BucketSettings, Transport
from dragoman_bus.transports.streams import QueueSettings

__all__ = ["Supervisor", "supervising"]

logger = logging.getLogger("dragoman.supervisor")

ACK_WAIT_SECONDS = 5.0
"""After so long, what a supervisor died over is dealt with by the next one; twice does no harm."""
RETRY_SECONDS = 1.0


class Supervisor:
    """One of the supervisors of a bus.

    Args:
        transport: The bus, with the right to make streams and consumers.
        settings: The limits of durable delivery.
        cancel_grace_seconds: What a worker gets to end a canceled task itself.
        lease_seconds: How long after the death of the acting supervisor another one acts.
        told: Called with whether this one acts, at first and after each change.
    """

    def __init__(
        self,
        transport: Transport,
        settings: DurableSettings | None = None,
        *,
        cancel_grace_seconds: float = CANCEL_GRACE_SECONDS,
        lease_seconds: float = 5.0,
        told: Callable[[bool], None] = lambda acts: None,
    ) -> None:
        self.settings = settings or DurableSettings()
        self.identity = f"supervisor-{new_identifier()[-12:]}"
        self._transport = transport
        self._sender = Sender(client_source(self.identity), time.time, new_identifier)
        self._grace = cancel_grace_seconds
        self._leadership = Leadership(
            transport,
            self.identity,
            self._begin,
            self._stop_acting,
            told=told,
            lease_seconds=lease_seconds,
            replicas=self.settings.replicas,
        )
        self._acting: list[Intake] = []
        self._watching: list[asyncio.Task[None]] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def acts(self) -> bool:
        """Whether this one acts, and does not wait."""
        return self._leadership.leads

    async def start(self) -> None:
        """Make the streams, and begin to act or to wait.

        Raises:
            BusUnavailable: the server has no JetStream, or is too old.
        """
        await make_streams(self._transport.streams(), self.settings)
        # Agents make the registry as well, but do not know of the cluster.
        copies = BucketSettings(replicas=self.settings.replicas)
        await self._transport.key_value(REGISTRY_BUCKET, settings=copies)
        self._running = asyncio.create_task(self._leadership.run())

    async def stop(self) -> None:
        """Let another one act at once."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._leadership.resign()

    async def _begin(self) -> None:
        streams = self._transport.streams()
        self._watching = [
            asyncio.create_task(QueueMaker(self._transport, self.settings).run()),
            asyncio.create_task(LogRoom(streams).run()),
        ]
        for intake in self._intakes():
            self._acting.append(intake)
            await self._insist(intake)

    async def _insist(self, intake: Intake) -> None:
        """Start an intake, however long the server takes to be ready for it."""
        while True:
            try:
                await intake.start()
                return
            except DragomanError as error:
                logger.warning("the supervisor cannot begin yet: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _stop_acting(self) -> None:
        for task in self._watching:
            task.cancel()
        if self._watching:
            await asyncio.wait(self._watching)
        self._watching = []
        while self._acting:
            with contextlib.suppress(DragomanError):
                await self._acting.pop().stop()

    def _intakes(self) -> list[Intake]:
        streams = self._transport.streams()
        store = LogStore(streams)
        controls = Controls(self._transport, store, self._sender, grace_seconds=self._grace)
        jobs = (
            (LOG_STREAM, "supervisor-control", log_subject("*", "control"), controls.handle),
            (LOG_STREAM, "supervisor-turn", f"{PREFIX}.turn.>", Turns(store).handle),
            (TIMER_STREAM, "supervisor-due", due_subject(), Timers(store, self._sender).handle),
            (
                ADVISORY_STREAM,
                "supervisor-advisory",
                "$JS.EVENT.ADVISORY.CONSUMER.>",
                Advisories(store, self._sender).handle,
            ),
        )
        return [
            Intake(
                streams,
                stream,
                QueueSettings(name=name, pattern=pattern, ack_wait=ACK_WAIT_SECONDS),
                handle,
            )
            for stream, name, pattern, handle in jobs
        ]


@asynccontextmanager
async def supervising(
    transport: Transport, settings: DurableSettings | None = None, **options: Any
) -> AsyncIterator[Supervisor]:
    """A supervisor while the context is open; ``options`` are those of ``Supervisor``.

    Raises:
        BusUnavailable: the server has no JetStream, or is too old.
    """
    supervisor = Supervisor(transport, settings, **options)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()
