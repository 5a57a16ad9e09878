"""A durable task that this worker runs: how it asks, keeps steps, fails, and is given back.

Spec: spec/durable.md, retry, steps and questions.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.store import LogStore
from dragoman_bus.durable.submission import check_storable
from dragoman_bus.protocol.a2a import Message, TaskState
from dragoman_bus.protocol.canonical import digest_of
from dragoman_bus.protocol.durable import OutboxData, StepData
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.error_objects import cancellation, error_object, error_of
from dragoman_bus.protocol.errors import DragomanError, PayloadTooLarge, ProtocolError
from dragoman_bus.protocol.messages import TaskOutbox
from dragoman_bus.protocol.payloads import ErrorObject, EventData, SubmitData
from dragoman_bus.protocol.soundness import check_sound
from dragoman_bus.protocol.subjects import event_subject
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.service.job import Answer, Job, Outcome, Released
from dragoman_bus.service.log_stream import Fenced, LogStream
from dragoman_bus.service.persisting import patiently
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.streams import Pulled

__all__ = ["DurableJob"]

logger = logging.getLogger("dragoman.service")

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0


class DurableJob(Job):
    """One delivery of one durable task.

    Args:
        log: What is known of its log.
        pulled: The queue message that brought it.
        store: The logs.
        sender: This instance.
    """

    stream: LogStream

    def __init__(self, log: LogFold, pulled: Pulled, store: LogStore, sender: Sender) -> None:
        super().__init__(log.data, LogStream(log, store, sender, self._lost))
        self.pulled = pulled
        self._store = store
        self.handed_back = False
        self._asked = 0
        self._names: dict[str, int] = {}
        self._outbox: list[SubmitData | EventData] = []
        self._sender = sender

    @property
    def attempt(self) -> int:
        """Which run of the task this is."""
        return self.stream.log.attempt + (not self.stream.claimed)

    def take_over(self) -> None:
        """Count what earlier attempts used (DUR-83); tasks below are found again, and tell anew."""
        self.usage = self.used_itself = self.stream.log.used

    async def ask(self, question: Message) -> Message:
        """The reply that the log has to this question; else store it and leave the task.

        Raises:
            Released: the reply will be served by whoever runs the task then.
        """
        replies = self.stream.log.replies
        self._asked += 1
        if self._asked <= len(replies):
            return replies[self._asked - 1]
        asked = self.stream.status(TaskState.INPUT_REQUIRED, question, self.used_itself)
        await self._or_released(asked)
        await self.pulled.acknowledge()
        raise Released

    async def step(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """The step's result from the log, or from ``work``, which is then kept.

        Either way it is what JSON makes of it, so that a first run sees what a later one will.

        Raises:
            ValueError: the name is empty, too long, or no text; ``work`` was not done.
        """
        unique = self.step_name(name)
        known = self.stream.log.steps.get(unique)
        if known is not None:
            return msgspec.json.decode(known)
        nothing = msgspec.Raw(b"null")
        entry = StepData(task_id=self.task_id, attempt=self.attempt, name=unique, output=nothing)
        check_sound(entry, "a step")
        document = msgspec.Raw(msgspec.json.encode(await work()))
        await self._or_released(self.stream.step(unique, document, self.used_itself))
        return msgspec.json.decode(document)

    async def delegation(self, skill: str, agent: str | None, input: Any) -> dict[str, Any]:
        """The same task in every attempt: its id follows from this one's and from what is asked."""
        asked = {"agent": agent or "", "skill": skill, "input": msgspec.to_builtins(input)}
        # Numbered only among those that ask the same, so tasks side by side need no fixed order.
        name = self.step_name(f"delegate {digest_of(asked)}")
        digest = digest_of([self.task_id, name]).removeprefix("sha256:")
        child = f"{self.task_id[:30]}-{digest[:24]}"
        if child not in self.stream.log.children:
            await self._or_released(self.stream.child(child, skill))
        attempts = self.data.maximum_attempts
        return {
            "delivery": "durable",
            "task_id": child,
            "maximum_attempts": None if isinstance(attempts, UnsetType) else attempts,
        }

    async def patiently(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do ``work`` again while the bus is away; the deadline ends that as well."""
        return await patiently(work, self.task_id)

    def send_afterwards(self, item: SubmitData | EventData) -> None:
        """Keep an item of the outbox.

        Raises:
            ProtocolError: the task or the event is not valid.
            PayloadTooLarge: the task is larger than the bus takes.
        """
        if isinstance(item, SubmitData):
            check_storable(self._store.streams, item)
        else:
            event_subject(item.topic, item.event)
        self._outbox.append(item)

    def step_name(self, name: str) -> str:
        """``name``, numbered when it was used before in this run (DUR-25)."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name} #{count}"

    def hand_back(self) -> bool:
        """Stop here; another worker goes on, and this attempt does not count."""
        if not self.stream.log.ended and not self.handed_back:
            self.handed_back = True
            if self.work is not None:
                self.work.cancel()
        return True

    async def settle(self, outcome: Outcome) -> bool:
        """End the task, or give it back for another attempt; whether it has ended."""
        try:
            if self.stream.fenced:
                return self._give_up()
            if outcome.state is TaskState.CANCELED and self.cancel_reason is None:
                outcome = self._unwanted(outcome)
            if self.handed_back:
                return await self._give_back(None, 0.0)
            if outcome.state is TaskState.FAILED:
                outcome = await self._perhaps_canceled(outcome)
            error = outcome.error
            if outcome.state is TaskState.FAILED and error is not None and self._may_retry(error):
                return await self._give_back(error, self._delay(error))
            return await self._end(outcome)
        except Fenced:
            return self._give_up()
        except DragomanError as error:
            # Unacknowledged, so it is delivered again; the log says what was done.
            logger.warning("task %s was not settled: %s", self.task_id, error)
            return False

    async def _perhaps_canceled(self, outcome: Outcome) -> Outcome:
        """A failure may be what a cancel looks like that has not been heard here (DUR-62).

        Above all, a canceled child's end may come before the cancel of its parent; then it is
        waited for, since the node that is read from may be behind.
        """
        below = outcome.error is not None and outcome.error.code == "CANCELED"
        log = await patiently(
            lambda: seen(
                lambda: self._store.read(self.task_id),
                lambda log: log.cancel is not None or not below,
            ),
            self.task_id,
        )
        if log.cancel is None:
            return outcome
        error = cancellation(log.cancel, "canceled by the caller", side_effects="possible")
        return Outcome(state=TaskState.CANCELED, error=error, usage=outcome.usage)

    def _unwanted(self, outcome: Outcome) -> Outcome:
        """A cancellation that nobody asked for: it must not end the task as canceled."""
        if self.work is not None and self.work.cancelling():
            # The program ends around the skill: another worker goes on.
            self.handed_back = True
            return outcome
        words = "the skill was canceled from within"
        error = error_object("SKILL_FAILED", words, side_effects="possible")
        return Outcome(state=TaskState.FAILED, error=error, usage=outcome.usage)

    async def _end(self, outcome: Outcome) -> bool:
        ending = Ending(
            outcome.state,
            artifacts=outcome.artifacts,
            usage=outcome.usage,
            receipt=outcome.receipt,
            error=outcome.error,
            outbox=self._sent_afterwards() if outcome.state is TaskState.COMPLETED else None,
        )
        try:
            await self.stream.end(ending)
        except (PayloadTooLarge, ProtocolError) as error:
            failed = error_of(error, side_effects="possible")
            await self.stream.end(Ending(TaskState.FAILED, error=failed, usage=outcome.usage))
        await self._acknowledge()
        return True

    def _sent_afterwards(self) -> TaskOutbox | None:
        if not self._outbox:
            return None
        submissions = [item for item in self._outbox if isinstance(item, SubmitData)]
        events = [item for item in self._outbox if isinstance(item, EventData)]
        data = OutboxData(
            task_id=self.task_id, submissions=submissions or UNSET, events=events or UNSET
        )
        return self._sender.wrap(TaskOutbox, data, id=f"{self.task_id}.outbox", trace=self.trace)

    async def _give_back(self, error: ErrorObject | None, delay: float) -> bool:
        await self.stream.retry(error, self.used_itself)
        await self.pulled.reject(delay=delay)
        return False

    def _give_up(self) -> bool:
        # The message is not acknowledged: whoever has the task answers for it (DUR-18).
        logger.info("task %s went to another worker", self.task_id)
        return False

    async def _acknowledge(self) -> None:
        try:
            await self.pulled.acknowledge()
        except DragomanError as error:
            # It comes again, is found ended, and is acknowledged then.
            logger.info("task %s ended, its message comes again: %s", self.task_id, error)

    def _may_retry(self, error: ErrorObject) -> bool:
        log = self.stream.log
        used = log.used_attempts + (not self.stream.claimed)
        return error.retryable and used < log.maximum_attempts and self._in_time(error)

    def _in_time(self, error: ErrorObject) -> bool:
        """Whether another attempt may begin before the deadline; if not, this error is the end."""
        wanted = error.retry_after_seconds
        least = 0.0 if isinstance(wanted, UnsetType) else wanted
        remaining = self.remaining()
        return remaining is None or remaining > least

    def _delay(self, error: ErrorObject) -> float:
        """Full jitter below a bound that doubles (DUR-21)."""
        used = max(1, self.stream.log.used_attempts)
        bound = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (used - 1))
        wanted = error.retry_after_seconds
        least = 0.0 if isinstance(wanted, UnsetType) else wanted
        return least + random.uniform(0.0, bound)

    def _lost(self) -> None:
        self.cancel(error_object("CANCELED", "the task went to another worker"))

    async def _or_released(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Fenced:
            raise asyncio.CancelledError from None
