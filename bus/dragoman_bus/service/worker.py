"""Pulls durable tasks from their queues, as many as there are free slots.

Spec: spec/durable.md, work. Direct and durable tasks share the slots of an instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque

from msgspec import UnsetType

from dragoman_bus.durable.ending import Ending
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
from dragoman_bus.service.instance import Instance
from dragoman_bus.service.intake import check_submission
from dragoman_bus.service.log_stream import Fenced, LogStream
from dragoman_bus.transports.port import Transport
from dragoman_bus.transports.streams import Pulled, Puller

__all__ = ["Worker"]

logger = logging.getLogger("dragoman.service")

CLAIM_AFTER_SECONDS = 0.05
HOLD_SECONDS = 0.25
CROWDED_SECONDS = 5.0
STAGGER_SECONDS = 0.005
BATCH_FIRST_EVERY = 4
PROGRESS_PER_ACK_WAIT = 4
LONGEST_INTERVAL_SECONDS = 1.0
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
        self._streams = transport.streams()
        self._store = LogStore(self._streams)
        self._pullers: list[Puller] = []
        # Whoever made the queues decided on the wait; once a second is enough for any of them.
        self._interval = min(LONGEST_INTERVAL_SECONDS, ack_wait / PROGRESS_PER_ACK_WAIT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._turn = 0
        self._crowded_until = 0.0
        self._held: deque[Pulled] = deque()
        self._asking: asyncio.TimerHandle | None = None

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
            self._pullers.append(await self._streams.puller(QUEUE_STREAM, name, self._receive))
        self.instance.on_slots = self._pull
        self._pull()
        self._spawn(self._keep_alive())

    async def pause(self) -> None:
        """Pull nothing more; what was pulled and not begun is given back."""
        self.instance.on_slots = lambda: None
        if self._asking is not None:
            self._asking.cancel()
        while self._pullers:
            await self._quietly(self._pullers.pop().close())
        while self._held:
            await self._quietly(self._held.popleft().reject())

    async def stop(self) -> None:
        """Pause, and leave off extending what is at work."""
        await self.pause()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    @property
    def _free(self) -> int:
        return max(0, self.instance.free_slots - self._starting)

    def _pull(self) -> None:
        """Fill the free slots with what is held here, and else from the queues."""
        while self._held and self._free:
            self._start(self._held.popleft())
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        free, queues = self._free, len(self._pullers)
        if 0 < free < queues:
            pullers = self._in_turn()
            if time.monotonic() < self._crowded_until:
                self._ask_one_by_one(pullers)
                return
        else:
            pullers = self._pullers
        # Each is asked for its share, and for one at least (DUR-10).
        share = min(free, max(1, free // max(1, queues)))
        for puller in pullers:
            puller.want(share)

    def _ask_one_by_one(self, pullers: list[Puller]) -> None:
        """Ask one queue, and a moment later the next, unless the slot was taken meanwhile."""
        if pullers:
            pullers[0].want(1)
            self._asking = asyncio.get_running_loop().call_later(
                STAGGER_SECONDS, self._ask_one_by_one, pullers[1:]
            )

    def _in_turn(self) -> list[Puller]:
        """The queues in the order in which they are asked, which is mostly that of the answers.

        The first one changes, so that none waits for ever; batches come behind the others, except
        every fourth time.
        """
        self._turn += 1
        batch = [puller for puller in self._pullers if puller.queue.endswith("-batch")]
        first = [puller for puller in self._pullers if puller not in batch]
        parts = [_rotated(part, self._turn) for part in (first, batch)]
        if self._turn % BATCH_FIRST_EVERY == 0:
            parts.reverse()
        return [*parts[0], *parts[1]]

    def _receive(self, pulled: Pulled) -> None:
        if self._free:
            self._start(pulled)
            self._pull()
            return
        # Several queues were asked for one slot. One may be free again in a moment; otherwise
        # another worker is to have the task. For a while, one queue is asked after the other.
        self._crowded_until = time.monotonic() + CROWDED_SECONDS
        self._held.append(pulled)
        asyncio.get_running_loop().call_later(HOLD_SECONDS, self._let_go, pulled)

    def _let_go(self, pulled: Pulled) -> None:
        if pulled in self._held:
            self._held.remove(pulled)
            self._spawn(self._quietly(pulled.reject(delay=random.uniform(0.0, HOLD_SECONDS))))

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
            self._pull()

    async def _run(self, job: DurableJob) -> None:
        if self.instance.shelf.find(job.task_id) is not None:
            # A second queue message for a task that runs here already.
            await job.pulled.reject(delay=self._interval)
            return
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
        job = DurableJob(log, pulled, self._store, self.instance.sender)
        job.trace = trace_of(message)
        return job if await self._acceptable(job, log, pulled) else None

    def _submission(self, pulled: Pulled) -> TaskSubmit | None:
        try:
            message = decode(pulled.data)
        except ProtocolError as error:
            logger.warning("refused from the queue: %s", error)
            return None
        return message if isinstance(message, TaskSubmit) else None

    async def _acceptable(self, job: DurableJob, log: LogFold, pulled: Pulled) -> bool:
        """Whether to run it; otherwise it is ended, or left to an agent that can."""
        ending: Ending | None = None
        try:
            if log.spine == 0 or not isinstance(log.data.limits, UnsetType):
                check_submission(log.data, self.instance.announce, now=time.time())
        except RemoteError as error:
            if error.code in REFUSED_ELSEWHERE:
                # Another agent of this skill may be able to.
                await pulled.reject(delay=self._interval)
                return False
            state = TaskState.FAILED if error.code == "DEADLINE_EXCEEDED" else TaskState.REJECTED
            ending = Ending(state, error=error_of(error))
        if log.cancel is not None:
            reason = log.cancel.reason
            words = "" if isinstance(reason, UnsetType) else f": {reason}"
            ending = Ending(
                TaskState.CANCELED, error=error_object("CANCELED", f"canceled by the caller{words}")
            )
        elif ending is None and log.used_attempts >= log.maximum_attempts:
            ending = Ending(
                TaskState.FAILED,
                error=error_object(
                    "AGENT_LOST",
                    f"{log.used_attempts} workers died or vanished while they ran the task",
                    side_effects="possible",
                ),
            )
        if ending is not None:
            await self._end(job.stream, ending, pulled)
            return False
        if not _is_first(pulled, log.task_id):
            try:
                await job.stream.claim()
            except Fenced:
                await pulled.reject(delay=self._interval)
                return False
        return True

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


def _rotated(pullers: list[Puller], by: int) -> list[Puller]:
    start = by % len(pullers) if pullers else 0
    return [*pullers[start:], *pullers[:start]]


def _is_first(pulled: Pulled, task_id: str) -> bool:
    """Whether nobody can have had the task: it is new, and was not queued again (DUR-12)."""
    return pulled.delivery == 1 and pulled.headers.get("Nats-Msg-Id") == task_id
