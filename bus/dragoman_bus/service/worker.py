"""Pulls durable tasks from their queues, as many as there are free slots.

Spec: spec/durable.md, work. Direct and durable tasks share the slots of an instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from msgspec import UnsetType

from dragoman_bus.durable.ending import Ending, canceled
from dragoman_bus.durable.layout import QUEUE_STREAM, agent_queue, skill_queue
from dragoman_bus.durable.store import LogStore
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.error_objects import error_object, error_of
from dragoman_bus.protocol.errors import DragomanError, ProtocolError, RemoteError
from dragoman_bus.protocol.messages import TaskSubmit, trace_of
from dragoman_bus.protocol.subjects import TASK_CLASSES
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.service.durable_job import DurableJob
from dragoman_bus.service.filling import Filling
from dragoman_bus.service.holding import is_at_work
from dragoman_bus.service.instance import Instance
from dragoman_bus.service.intake import check_submission
from dragoman_bus.service.log_stream import Fenced, LogStream
from dragoman_bus.transports.port import Transport
from dragoman_bus.transports.streams import Pulled

__all__ = ["Worker"]

logger = logging.getLogger("dragoman.service")

CLAIM_AFTER_SECONDS = 0.05
PROGRESS_PER_ACK_WAIT = 4
LONGEST_INTERVAL_SECONDS = 1.0
LONGEST_RETURN_SECONDS = 60.0
REFUSED_ELSEWHERE = ("UNKNOWN_SKILL", "EXTENSION_REQUIRED", "CONTRACT_MISMATCH")


class Worker:
    """Takes durable tasks for one instance.

    Args:
        transport: The bus; without streams nothing is pulled, and direct tasks go on.
        instance: Runs the tasks.
        ack_wait: Seconds after which the queue gives an unextended task to another worker.
    """

    def __init__(self, transport: Transport, instance: Instance, *, ack_wait: float = 30.0) -> None:
        self.instance = instance
        self._transport = transport
        self._streams = transport.streams()
        self._store = LogStore(self._streams)
        # Whoever made the queues decided on the wait; once a second is enough for any of them.
        self._interval = min(LONGEST_INTERVAL_SECONDS, ack_wait / PROGRESS_PER_ACK_WAIT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._filling = Filling(self._free, self._start)

    async def start(self) -> None:
        """Begin to pull the queues of the agent's skills, and the agent's own."""
        announce = self.instance.announce
        names = [
            *(
                skill_queue(contract.skill, class_)
                for contract in announce.contracts
                for class_ in TASK_CLASSES
            ),
            agent_queue(announce.agent),
        ]
        for name in names:
            receive = self._filling.receive
            self._filling.add(await self._streams.puller(QUEUE_STREAM, name, receive))
        self.instance.on_slots = self._filling.fill
        self._filling.fill()
        self._spawn(self._keep_alive())

    async def pause(self) -> None:
        """Pull nothing more; what was pulled and not begun is given back."""
        self.instance.on_slots = lambda: None
        await self._filling.close()

    async def stop(self) -> None:
        """Pause, and leave off extending what is at work."""
        await self.pause()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def _free(self) -> int:
        return max(0, self.instance.free_slots - self._starting)

    def _start(self, pulled: Pulled) -> None:
        self._starting += 1
        self._spawn(self._begin(pulled))

    async def _begin(self, pulled: Pulled) -> None:
        try:
            job = await self._take(pulled)
            if job is not None:
                await self._run(job)
        except DragomanError as error:
            logger.warning("a queued task could not be begun: %s", error)
            await self._quietly(pulled.reject(delay=1.0))
        finally:
            # Only now: the slot that the task has taken is not free in between.
            self._starting -= 1
            self._filling.fill()

    async def _run(self, job: DurableJob) -> None:
        if self.instance.shelf.find(job.task_id) is not None:
            # A second queue message for a task that runs here already.
            await self._return(job.pulled)
            return
        job.take_over()
        self.instance.admit(job)
        asyncio.get_running_loop().call_later(
            CLAIM_AFTER_SECONDS, lambda: self._spawn(self._claim(job))
        )

    async def _claim(self, job: DurableJob) -> None:
        if not job.stream.log.ended and job.work is not None and not job.work.done():
            with contextlib.suppress(Fenced):
                await job.stream.claim()

    async def _take(self, pulled: Pulled) -> DurableJob | None:
        """The job of a queue message; ``None`` when there is nothing to run."""
        message = self._submission(pulled)
        if message is None:
            await pulled.terminate("not a valid task.submit")
            return None
        log = LogFold(message.data.task_id)
        if _is_first(pulled, log.task_id):
            log.begin(message)
        else:
            await self._store.read(message.data.task_id, into=log)
            if log.submission is None:
                log.begin(message)
        if log.ended:
            await pulled.acknowledge()
            return None
        if await self._is_at_work(log):
            await self._return(pulled)
            return None
        job = DurableJob(log, pulled, self._store, self.instance.sender)
        job.trace = trace_of(message)
        return job if await self._acceptable(job, log, pulled) else None

    async def _is_at_work(self, log: LogFold) -> bool:
        """Whether the message is one too many, since a worker does the task (DUR-86)."""
        here = log.task_id in self.instance.shelf.running
        return here or await is_at_work(self._transport, self.instance.sender, log)

    async def _return(self, pulled: Pulled) -> None:
        """Give back what others are to have, each time for longer: deliveries are counted."""
        await pulled.reject(delay=min(LONGEST_RETURN_SECONDS, self._interval * pulled.delivery))

    def _submission(self, pulled: Pulled) -> TaskSubmit | None:
        try:
            message = decode(pulled.data)
        except ProtocolError as error:
            logger.warning("refused from the queue: %s", error)
            return None
        return message if isinstance(message, TaskSubmit) else None

    async def _acceptable(self, job: DurableJob, log: LogFold, pulled: Pulled) -> bool:
        """Whether to run it; otherwise it is ended, or left to an agent that can."""
        try:
            ending = self._verdict(log)
        except RemoteError:
            # Another agent of this skill may be able to.
            await self._return(pulled)
            return False
        if ending is None and not _is_first(pulled, log.task_id):
            try:
                await job.stream.claim()
            except Fenced:
                await pulled.reject(delay=self._interval)
                return False
            # A wish that was stored between the reading and the claim is known only now.
            ending = None if log.cancel is None else canceled(log.cancel)
        if ending is not None:
            await self._end(job.stream, ending, pulled)
        return ending is None

    def _verdict(self, log: LogFold) -> Ending | None:
        """How a task ends that is not to be run; ``None`` to run it.

        Raises:
            RemoteError: this agent cannot, and another one may.
        """
        if log.cancel is not None:
            return canceled(log.cancel)
        try:
            if log.spine == 0 or not isinstance(log.data.limits, UnsetType):
                check_submission(log.data, self.instance.announce, now=time.time())
        except RemoteError as error:
            if error.code in REFUSED_ELSEWHERE:
                raise
            state = TaskState.FAILED if error.code == "DEADLINE_EXCEEDED" else TaskState.REJECTED
            return Ending(state, error=error_of(error))
        if log.used_attempts < log.maximum_attempts:
            return None
        words = f"{log.used_attempts} workers died or vanished while they ran the task"
        lost = error_object("AGENT_LOST", words, side_effects="possible")
        return Ending(TaskState.FAILED, error=lost)

    async def _end(self, stream: LogStream, ending: Ending, pulled: Pulled) -> None:
        try:
            await stream.end(ending, ran=False)
        except Fenced:
            await pulled.reject(delay=1.0)
        else:
            await pulled.acknowledge()

    async def _keep_alive(self) -> None:
        """Extend the ack wait of everything at work here (DUR-11)."""
        while True:
            await asyncio.sleep(self._interval)
            for job in list(self.instance.shelf.running.values()):
                if isinstance(job, DurableJob):
                    await self._quietly(job.pulled.progress())

    async def _quietly(self, work: object) -> None:
        try:
            await work  # type: ignore[misc]
        except DragomanError as error:
            logger.info("durable work: %s", error)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_first(pulled: Pulled, task_id: str) -> bool:
    """Whether nobody can have had the task: it is new, and was not queued again (DUR-12)."""
    return pulled.delivery == 1 and pulled.headers.get("Nats-Msg-Id") == task_id
