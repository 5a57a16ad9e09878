"""Puts an instance on the bus and takes it off again without losing work.

Spec: spec/nats-binding.md, subjects; spec/operations.md, drain, keep-alive and deadlines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from msgspec import UnsetType

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.payloads import InstanceState
from dragoman_bus.protocol.subjects import (
    SKILL_QUEUE,
    agent_subject,
    ask_subject,
    instance_subject,
    skill_subject,
)
from dragoman_bus.protocol.versions import SUPPORTED_VERSIONS
from dragoman_bus.registry import LeaseKeeper
from dragoman_bus.service.instance import Instance
from dragoman_bus.service.job import Job
from dragoman_bus.service.micro import MicroResponder, ServiceFacts
from dragoman_bus.service.stream import KEEP_ALIVE_SECONDS
from dragoman_bus.transports.port import Subscription, Transport

__all__ = ["Serving"]

logger = logging.getLogger("dragoman.service")

TICK_SECONDS = 0.5
FIRST_WORD_SECONDS = 0.25
"""With a tick added, a task that has said nothing speaks well within its second (SUB-2)."""
CANCEL_GRACE_SECONDS = 4.0
"""With a tick added, a canceled task ends within its five seconds (CAN-6)."""
CALLER_GONE_SECONDS = 30.0
LEAVING_SECONDS = 1.0


class Serving:
    """An instance with its subscriptions, its lease, its NATS service answers and its ticker."""

    def __init__(self, transport: Transport, instance: Instance) -> None:
        self.instance = instance
        self._transport = transport
        self._intake: list[Subscription] = []
        self._control: list[Subscription] = []
        self._keeper = LeaseKeeper(transport, instance.announce, instance.lease, instance.sender)
        self._responder = MicroResponder(transport, self._facts(), self._statistics)
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe first, announce last: who is found in the registry answers.

        Raises:
            BusUnavailable: no JetStream for the registry, or a subscription was refused.
        """
        receive = self.instance.receive
        subject = instance_subject(self.instance.id, "*")
        self._control.append(await self._transport.subscribe(subject, receive))
        for _, subject, queue in self._endpoints():
            self._intake.append(await self._transport.subscribe(subject, receive, queue=queue))
        await self._responder.start()
        await self._keeper.start()
        self._ticker = asyncio.create_task(self._tick(), name="dragoman ticker")

    async def drain(self, grace_seconds: float) -> bool:
        """Leave: take nothing new, finish what runs, say goodbye; whether all could finish."""
        self.instance.state = InstanceState.DRAINING
        await self._quietly(self._keeper.update())
        for subscription in self._intake:
            await self._quietly(subscription.drain())
        try:
            await asyncio.wait_for(self.instance.idle(), grace_seconds)
            finished = True
        except TimeoutError:
            finished = False
        await self.stop()
        return finished

    async def stop(self) -> None:
        """Leave at once; running skills are canceled."""
        # What is handed back must not be taken again here.
        self.instance.state = InstanceState.DRAINING
        if self._ticker is not None:
            self._ticker.cancel()
        self.instance.leave(error_object("CANCELED", "the agent is shutting down"))
        await self._leaving()
        await self._keeper.stop()
        await self._quietly(self._responder.stop())
        for subscription in [*self._intake, *self._control]:
            await self._quietly(subscription.unsubscribe())
        await self._quietly(self._transport.flush())

    async def _leaving(self) -> None:
        """Let what was told to stop say so, unless it does not stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.instance.idle(), LEAVING_SECONDS)

    async def _quietly(self, work: object) -> None:
        try:
            await work  # type: ignore[misc]
        except DragomanError as error:
            logger.warning("while leaving the bus: %s", error)

    async def _tick(self) -> None:
        """One ticker for all tasks: first word within a second, keep-alives, deadlines."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            for job in list(self.instance.shelf.running.values()):
                try:
                    await self._look_after(job, now)
                except DragomanError as error:
                    logger.warning("task %s: %s", job.task_id, error)
            self.instance.shelf.sweep(now)

    async def _look_after(self, job: Job, now: float) -> None:
        if job.deadline is not None and now > job.deadline and job.cancel_reason is None:
            self.instance.cancel(
                job,
                error_object("DEADLINE_EXCEEDED", "the deadline passed", side_effects="possible"),
            )
        stalled = job.stream.stalled_since
        if stalled is not None and now - stalled > CALLER_GONE_SECONDS:
            self.instance.cancel(job, error_object("CANCELED", "the caller reads no more"))
        if job.canceled_at is not None and now - job.canceled_at > CANCEL_GRACE_SECONDS:
            await self.instance.finalize(job)
        elif now - job.stream.sent_at > _patience(job):
            await self._speak(job)

    async def _speak(self, job: Job) -> None:
        if job.work is not None and job.stream.fold.state is TaskState.SUBMITTED:
            if job.stream.has_room:
                await job.stream.status(TaskState.WORKING)
        else:
            await job.stream.keep_alive()

    def _endpoints(self) -> list[tuple[str, str, str]]:
        announce = self.instance.announce
        return [
            ("rpc", agent_subject(announce.agent), announce.agent),
            *(
                (f"skill-{contract.skill}", skill_subject(contract.skill), SKILL_QUEUE)
                for contract in announce.contracts
            ),
            *(
                (f"ask-{contract.skill}", ask_subject(contract.skill), announce.agent)
                for contract in announce.contracts
            ),
        ]

    def _facts(self) -> ServiceFacts:
        instance = self.instance
        announce = instance.announce
        models = announce.models
        families = [] if isinstance(models, UnsetType) else [facts.family for facts in models]
        lease = instance.lease()
        return ServiceFacts(
            name=announce.agent,
            id=instance.id,
            version=announce.card.version,
            description=announce.card.description,
            metadata={
                "dragoman.protocol": ",".join(SUPPORTED_VERSIONS),
                "dragoman.card": lease.card,
                "dragoman.models": ",".join(families),
            },
            endpoints=self._endpoints(),
            started=lease.started_at,
        )

    def _statistics(self) -> dict[str, object]:
        instance = self.instance
        return instance.totals.as_statistics(
            {
                "state": instance.state.value,
                "slots": instance.limits.slots,
                "running": instance.running,
                "queued": instance.queued,
            }
        )


def _patience(job: Job) -> float:
    """Seconds of silence after which a task speaks at the next tick."""
    if job.stream.fold.sequence == 0:
        return FIRST_WORD_SECONDS
    return KEEP_ALIVE_SECONDS / 2 - TICK_SECONDS
