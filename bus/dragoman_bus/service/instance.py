"""An instance of an agent on the bus: takes tasks, runs them, answers questions about them.

Spec: spec/operations.md and spec/nats-binding.md. Any bytes on any of its subjects give a
protocol error back where there is a reply subject, a counter and a log line; nothing ends it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import UnsetType

from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.error_objects import cancellation, error_object, error_of
from dragoman_bus.protocol.errors import (
    DragomanError,
    PayloadTooLarge,
    ProtocolError,
    RemoteError,
)
from dragoman_bus.protocol.messages import (
    AgentDrain,
    AgentLease,
    AgentStatus,
    Envelope,
    ErrorMessage,
    TaskCancel,
    TaskFinal,
    TaskFlow,
    TaskGet,
    TaskReply,
    TaskSubmit,
    TaskSubscribe,
    trace_of,
    type_of,
)
from dragoman_bus.protocol.payloads import (
    AnnounceData,
    ErrorObject,
    InstanceState,
    LeaseData,
)
from dragoman_bus.protocol.subjects import ask_subject
from dragoman_bus.protocol.timestamps import format_timestamp
from dragoman_bus.registry.keeper import card_digest
from dragoman_bus.service.intake import check_submission, is_meant_for, refusal
from dragoman_bus.service.job import Job, Outcome, Released
from dragoman_bus.service.replier import Replier
from dragoman_bus.service.shelf import Shelf
from dragoman_bus.service.stream import ReplyStream
from dragoman_bus.service.totals import Totals
from dragoman_bus.transports.port import Delivery, Transport

__all__ = ["Instance", "InstanceLimits"]

logger = logging.getLogger("dragoman.service")

RETRY_AFTER_SECONDS = 0.5

Run = Callable[[Job], Awaitable[Outcome]]

_OPERATIONS: dict[type[Envelope], str] = {
    TaskSubmit: "submit",
    TaskCancel: "cancel",
    TaskReply: "reply",
    TaskGet: "get",
    TaskSubscribe: "subscribe",
    TaskFlow: "flow",
    AgentStatus: "status",
    AgentDrain: "drain",
}


class InstanceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one instance: tasks at once, tasks waiting, seconds of its lease."""

    slots: int = 16
    queue: int = 64
    lease_seconds: float = 10.0


class Instance:
    """The state of one running instance.

    Args:
        transport: The bus.
        announce: What the agent is.
        run: Runs the skill of an accepted task and says how it ended.
        limits: Bounds.
    """

    def __init__(
        self, transport: Transport, announce: AnnounceData, run: Run, limits: InstanceLimits
    ) -> None:
        self.announce = announce
        self.limits = limits
        self.id = f"{announce.agent[:40]}-{new_identifier()[-16:]}"
        self.sender = Sender(agent_source(announce.agent, self.id), time.time, new_identifier)
        self.state = InstanceState.READY
        self.totals = Totals()
        self.shelf = Shelf(self._revive)
        self.drain_requested = asyncio.Event()
        self.drain_grace: float | None = None
        self._transport = transport
        self._run = run
        self._digest = card_digest(announce)
        self._started_at = format_timestamp(time.time())
        self._queue: deque[Job] = deque()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._replier = Replier(transport)
        self.on_slots: Callable[[], None] = lambda: None

    @property
    def running(self) -> int:
        """Tasks that hold a slot."""
        return self._busy

    @property
    def queued(self) -> int:
        """Accepted tasks that wait for a slot."""
        return len(self._queue)

    def lease(self) -> LeaseData:
        """The lease as it is now."""
        return LeaseData(
            agent=self.announce.agent,
            instance=self.id,
            card=self._digest,
            state=self.state,
            lease_seconds=self.limits.lease_seconds,
            slots=self.limits.slots,
            running=self._busy,
            queued=len(self._queue),
            started_at=self._started_at,
        )

    async def idle(self) -> None:
        """Wait until no task runs or waits."""
        await self._idle.wait()

    def receive(self, delivery: Delivery) -> None:
        """Take any delivery on any of the instance's subjects."""
        try:
            message = decode(delivery.data)
            self._check_operation(message, delivery.subject)
            if not is_meant_for(message, self.announce.agent, delivery.subject):
                return
            if isinstance(message, TaskSubmit):
                self._submit(message, delivery)
            else:
                self._dispatch(message, delivery.reply)
        except DragomanError as error:
            self._refuse(delivery, error)

    @property
    def free_slots(self) -> int:
        """How many more tasks could start now; none while draining."""
        if self.state is InstanceState.DRAINING or self._queue:
            return 0
        return max(0, self.limits.slots - self._busy)

    def admit(self, job: Job) -> None:
        """Start a task that came another way than by a request, in one of the free slots."""
        self.shelf.add(job)
        self._idle.clear()
        self._start(job)

    def leave(self, reason: ErrorObject) -> None:
        """Hand back what another instance can go on with, and cancel every other task."""
        for job in list(self.shelf.running.values()):
            if not job.hand_back():
                self.cancel(job, reason)

    def _check_operation(self, message: Envelope, subject: str) -> None:
        """Permissions are given by subject, so the subject must say what the message does."""
        operation = subject.rsplit(".", 1)[-1] if ".inst." in subject else "submit"
        wanted = _OPERATIONS.get(type(message))
        if wanted is None:
            raise ProtocolError("an agent does not take messages of this type", code="UNKNOWN_TYPE")
        if wanted != operation:
            words = f"{type_of(message)} is sent to {wanted!r}, not to {operation!r}"
            raise ProtocolError(
                words,
                code="UNKNOWN_TYPE",
                details={"violations": [{"path": "/type", "message": words}]},
            )

    def _dispatch(self, message: Envelope, reply: str) -> None:
        if isinstance(message, TaskFlow):
            job = self.shelf.find(message.data.task_id)
            if job is not None:
                job.stream.acknowledge(message.data.through)
        elif isinstance(message, AgentStatus):
            self._replier.answer(reply, self.sender.wrap(AgentLease, self.lease()))
        elif isinstance(message, AgentDrain):
            grace = message.data.grace_seconds
            self.drain_grace = None if isinstance(grace, UnsetType) else grace
            self.state = InstanceState.DRAINING
            self.drain_requested.set()
            self._replier.answer(reply, self.sender.wrap(AgentLease, self.lease()))
        elif isinstance(message, TaskCancel | TaskGet | TaskReply | TaskSubscribe):
            self._about_task(message, reply)

    def _about_task(
        self, message: TaskCancel | TaskGet | TaskReply | TaskSubscribe, reply: str
    ) -> None:
        task_id = message.data.task_id
        job = self.shelf.find(task_id)
        if job is None:
            raise RemoteError(
                "this instance does not know the task", code="TASK_NOT_FOUND", task_id=task_id
            )
        if isinstance(message, TaskReply) and not job.reply(message.data.message):
            raise RemoteError(
                "the task did not ask for anything", code="TASK_NOT_WAITING", task_id=task_id
            )
        if isinstance(message, TaskSubscribe):
            self._attach(job, reply, message.data.flow_window)
            return
        try:
            # The answer shows the task as it was when the request arrived.
            self._replier.answer(reply, job.stream.snapshot())
        finally:
            if isinstance(message, TaskCancel):
                self.cancel(job, cancellation(message.data, "canceled by the caller"))

    def _attach(self, job: Job, reply: str, window: int | UnsetType) -> None:
        if not reply:
            return
        introduced = job.stream.attach(
            reply, window=None if isinstance(window, UnsetType) else window
        )
        if introduced is None:
            self._replier.answer(reply, job.stream.snapshot())
        else:
            self._replier.run_soon(introduced)

    def _submit(self, message: TaskSubmit, delivery: Delivery) -> None:
        data = message.data
        known = self.shelf.find(data.task_id)
        if known is not None:
            self._submit_again(known, message, delivery.reply)
            return
        check_submission(data, self.announce, now=time.time())
        if self.state is InstanceState.DRAINING:
            raise RemoteError(
                "this instance is leaving",
                code="DRAINING",
                retry_after=RETRY_AFTER_SECONDS,
                task_id=data.task_id,
            )
        if self._busy >= self.limits.slots and len(self._queue) >= self.limits.queue:
            raise RemoteError(
                f"all {self.limits.slots} slots are busy and {self.limits.queue} tasks wait",
                code="OVERLOADED",
                retry_after=RETRY_AFTER_SECONDS,
                task_id=data.task_id,
            )
        job = self._job(message, delivery.reply, delivery.data)
        delegated = not isinstance(data.lineage, UnsetType)
        job.speaks_first = delegated or delivery.subject == ask_subject(data.skill)
        self._accept(job)

    def _submit_again(self, known: Job, message: TaskSubmit, reply: str) -> None:
        data = message.data
        if (known.data.skill, known.data.message) != (data.skill, data.message):
            raise RemoteError(
                "another task has this id", code="TASK_CONFLICT", task_id=data.task_id
            )
        self._attach(known, reply, data.flow_window)

    def _job(self, message: TaskSubmit, reply: str, request: bytes) -> Job:
        data = message.data
        window = data.flow_window
        stream = ReplyStream(
            data.task_id,
            data.task_id if isinstance(data.context_id, UnsetType) else data.context_id,
            reply=reply,
            window=None if isinstance(window, UnsetType) else window,
            sender=self.sender,
            encode=self._replier.encode,
            publish=self._transport.publish,
        )
        return Job(data, stream, trace_of(message), request=request)

    def _revive(self, request: bytes, final: bytes) -> Job:
        """A finished task from the two messages that were all of it."""
        submitted, ended = decode(request), decode(final)
        assert isinstance(submitted, TaskSubmit)
        assert isinstance(ended, TaskFinal)
        job = self._job(submitted, "", request)
        job.stream.fold.apply(ended)
        return job

    def _accept(self, job: Job) -> None:
        self.shelf.add(job)
        self._idle.clear()
        if self._busy < self.limits.slots:
            self._start(job)
        else:
            self._queue.append(job)

    def _start(self, job: Job) -> None:
        self._busy += 1
        self.on_slots()
        job.started_at = time.monotonic()
        job.work = asyncio.create_task(self._work(job))

    async def _work(self, job: Job) -> None:
        try:
            if job.speaks_first:
                await job.stream.status(TaskState.WORKING)
            outcome = await self._run(job)
            await self._finish(job, outcome)
        except asyncio.CancelledError:
            await self._finish(job, job.canceled_outcome())
        except Released:
            self.shelf.forget(job)
        except Exception:
            logger.exception("task %s failed in the agent itself", job.task_id)
            failed = error_object("INTERNAL", "the agent failed", side_effects="possible")
            await self._finish(job, Outcome(state=TaskState.FAILED, error=failed))
        finally:
            self._busy -= 1
            self._next()

    async def _finish(self, job: Job, outcome: Outcome) -> None:
        settled = await job.settle(outcome)
        if settled is not None:
            self.totals.count(job, outcome)
            if settled:
                self.shelf.finish(job)
            else:
                self.shelf.forget(job)
            return
        try:
            ended = await job.stream.final(
                outcome.state,
                artifacts=outcome.artifacts,
                usage=outcome.usage,
                receipt=outcome.receipt,
                error=outcome.error,
            )
        except (PayloadTooLarge, ProtocolError) as error:
            failed = error_of(error, side_effects="possible")
            ended = await job.stream.final(TaskState.FAILED, error=failed, usage=outcome.usage)
        except DragomanError as error:
            # The log has it: whoever asks later gets it in a snapshot.
            logger.warning("the end of task %s was not delivered: %s", job.task_id, error)
            ended = True
        if ended:
            self.totals.count(job, outcome)
            self.shelf.finish(job)

    def _next(self) -> None:
        while self._queue and self._busy < self.limits.slots:
            self._start(self._queue.popleft())
        if not self._busy and not self._queue:
            self._idle.set()
        self.on_slots()

    def cancel(self, job: Job, reason: ErrorObject) -> None:
        """Stop a task, running or waiting; an ended one stays as it is."""
        if job.stream.fold.is_terminal:
            return
        begun = "none" if job.work is None else "possible"
        job.cancel(msgspec.structs.replace(reason, side_effects=begun))
        if job.work is None:
            self._queue.remove(job)
            self._replier.run_soon(self._finish(job, job.canceled_outcome()))
            self._next()

    async def finalize(self, job: Job) -> None:
        """End a task whose skill ignores its cancellation; its slot stays taken."""
        await self._finish(job, job.canceled_outcome())

    def _refuse(self, delivery: Delivery, error: DragomanError) -> None:
        self.totals.refused += 1
        if isinstance(error, ProtocolError):
            self.totals.invalid += 1
            logger.warning("refused on %s: %s", delivery.subject, error)
        data = refusal(delivery.data, error)
        if data is None:
            return
        try:
            self._replier.answer(delivery.reply, self.sender.wrap(ErrorMessage, data))
        except DragomanError as failure:
            logger.warning("no error could be sent: %s", failure)
