"""Dead letters: list them, look at one, redrive it to the same or another agent, drop it.

Spec: spec/durable.md, dead letters. A dead letter is settled once: the server refuses the second
settlement, so nothing is redriven twice. Reached as ``Bus.durable.dead_letters``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

import msgspec
from msgspec import UNSET, UnsetType

from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.durable.store import LogStore
from dragoman_bus.durable.submission import (
    check_storable,
    correct_timer,
    enqueue,
    set_timer,
    submission_records,
    submit,
    timer_record,
)
from dragoman_bus.protocol.canonical import digest_of
from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.durable import DeadLetterData, OutboxData, SettlementData
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import ProtocolError, RevisionConflict, TaskRejected
from dragoman_bus.protocol.messages import (
    AnyMessage,
    TaskDeadLetter,
    TaskOutbox,
    TaskSettlement,
    TaskSubmit,
)
from dragoman_bus.protocol.payloads import Limits, SubmitData
from dragoman_bus.protocol.soundness import reason_of
from dragoman_bus.protocol.subjects import dead_letter_subject, log_subject
from dragoman_bus.protocol.timestamps import format_timestamp
from dragoman_bus.transports.lagging import seen
from dragoman_bus.transports.streams import Expectation, Record, Stored

__all__ = ["DeadLetter", "DeadLetters"]

logger = logging.getLogger("dragoman.client")

PAGE = 200
DEFAULT_DEADLINE_SECONDS = 3600.0
LONGEST_BASE = 56


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A failed durable task, and what became of it.

    Attributes:
        data: All that is known of the task: submission, attempts, error, partial output.
        failed_at: When it ended.
        position: Where it is stored; where a list continues.
        last_position: Of what was stored last on its subject; the letter itself, as long as it is
            open and nobody wrote there what is no settlement.
        settlement: How it was settled; ``None`` while it is open.
    """

    data: DeadLetterData
    failed_at: str
    position: int
    last_position: int
    settlement: SettlementData | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody has redriven or dropped it."""
        return self.settlement is None


class DeadLetters:
    """The dead letters of one bus.

    Args:
        store: The logs.
        sender: Who settles.
    """

    def __init__(self, store: LogStore, sender: Sender) -> None:
        self._store = store
        self._sender = sender

    async def all(
        self, *, skill: str = "*", settled: bool = False, after: int = 0
    ) -> AsyncIterator[DeadLetter]:
        """Dead letters, the oldest first; only open ones unless ``settled``."""
        pattern = dead_letter_subject(skill)
        while True:
            page = await self._store.streams.read(LOG_STREAM, pattern, after=after, limit=PAGE)
            letters = [stored for stored in page.messages if _is_letter(stored)]
            last = await self._last(letters)
            for stored in letters:
                letter = _letter(stored, last.get(stored.subject))
                if letter is not None and (settled or letter.is_open):
                    yield letter
            if not page.more or not page.messages:
                return
            after = page.messages[-1].position

    async def get(self, task_id: str) -> DeadLetter:
        """The dead letter of a task.

        Raises:
            TaskRejected: ``TASK_NOT_FOUND``: the task has none.
        """
        letters = await seen(lambda: self._letters_of(task_id), bool)
        if letters:
            last = await self._last(letters)
            letter = _letter(letters[-1], last.get(letters[-1].subject))
            if letter is not None:
                return letter
        raise TaskRejected(
            f"task {task_id} has no dead letter", code="TASK_NOT_FOUND", task_id=task_id
        )

    async def _letters_of(self, task_id: str) -> list[Stored]:
        page = await self._store.streams.read(LOG_STREAM, dead_letter_subject("*", task_id))
        return [stored for stored in page.messages if _is_letter(stored)]

    async def drop(self, task_id: str, *, reason: str = "") -> None:
        """Settle a dead letter without doing anything.

        Raises:
            TaskRejected: ``TASK_NOT_FOUND``, or ``ALREADY_SETTLED``.
        """
        letter = await self.get(task_id)
        data = SettlementData(task_id=task_id, action="dropped", reason=reason_of(reason))
        await self._settle(letter, data, [])

    async def redrive(
        self,
        task_id: str,
        *,
        agent: str | None = None,
        skill: str | None = None,
        deadline: float = DEFAULT_DEADLINE_SECONDS,
        reason: str = "",
    ) -> str:
        """Submit a failed task again, as a new one whose id is returned.

        Asked again for the same, it returns the id of the first time.

        Args:
            task_id: The failed task.
            agent: Who is to do it; as before when ``None``.
            skill: What is to be done; as before when ``None``.
            deadline: Seconds from now.
            reason: For people.

        Raises:
            TaskRejected: ``TASK_NOT_FOUND``; ``ALREADY_SETTLED`` when it was dropped, or redriven
                to another agent or skill; ``TASK_CONFLICT`` when its new id belongs to a task.
            ProtocolError: agent or skill are no names.
            Overloaded: the queue is full; redrive again.
        """
        letter = await self.get(task_id)
        data = _again(letter.data, agent, skill, time.time() + deadline)
        check_storable(self._store.streams, data)
        submission = self._sender.wrap(TaskSubmit, data, id=data.task_id)
        done = letter.settlement
        if done is not None and done.action == "redriven" and done.redriven_as == data.task_id:
            # It may have died between the settlement and the queue.
            known = (await self._store.read(data.task_id)).submission
            if known is not None and not _is_same(known.data, agent, skill):
                raise _settled(letter)
            await submit(self._store, self._sender, known or submission)
            return data.task_id
        timer = timer_record(data.task_id, "deadline", time.time() + deadline, self._sender)
        timed = await set_timer(self._store, timer)
        settlement = SettlementData(
            task_id=task_id,
            action="redriven",
            redriven_as=data.task_id,
            reason=reason_of(reason),
        )
        # Should this program die now, the supervisor queues it (DUR-80).
        outbox = self._sender.wrap(TaskOutbox, OutboxData(task_id=task_id, submissions=[data]))
        left = Record(subject=log_subject(task_id, "control"), data=encode(outbox))
        records = [*submission_records(submission, self._sender), left]
        await self._settle(letter, settlement, records)
        if not timed:
            await correct_timer(self._store, self._sender, data)
        if data.ordered is not True:
            await enqueue(self._store, submission)
        return data.task_id

    async def _settle(
        self, letter: DeadLetter, data: SettlementData, records: list[Record]
    ) -> None:
        if letter.settlement is not None:
            raise _settled(letter)
        subject = dead_letter_subject(letter.data.submission.skill, data.task_id)
        settlement = self._sender.wrap(TaskSettlement, data)
        record = Record(
            subject=subject,
            data=encode(settlement),
            expect=Expectation(subject, letter.last_position),
        )
        try:
            await self._store.streams.append(LOG_STREAM, record, *records)
        except RevisionConflict:
            now = await seen(lambda: self.get(data.task_id), lambda letter: not letter.is_open)
            if now.is_open:
                words = f"another task has the id {data.redriven_as}"
                raise TaskRejected(words, code="TASK_CONFLICT", task_id=data.task_id) from None
            raise _settled(now) from None

    async def _last(self, letters: list[Stored]) -> dict[str, Stored]:
        """What was stored last on the subjects of letters: a settlement, or a letter itself."""
        if not letters:
            return {}
        subjects = sorted({letter.subject for letter in letters})
        stored = await self._store.streams.last(LOG_STREAM, *subjects)
        return {one.subject: one for one in stored}


def _is_letter(stored: Stored) -> bool:
    try:
        return isinstance(decode(stored.data), TaskDeadLetter)
    except ProtocolError:
        return False


def _end_of(last: Stored) -> AnyMessage | None:
    """What was stored last; ``None`` for what is no message, which settles nothing."""
    try:
        return decode(last.data)
    except ProtocolError as error:
        logger.warning("entry %d, after a dead letter, is not valid: %s", last.position, error)
        return None


def _letter(stored: Stored, last: Stored | None) -> DeadLetter | None:
    """A stored letter with its settlement; ``None`` for one that a later failure replaced."""
    message = decode(stored.data)
    end = message if last is None else _end_of(last)
    replaced = isinstance(end, TaskDeadLetter) and last and last.position > stored.position
    if not isinstance(message, TaskDeadLetter) or replaced:
        return None
    return DeadLetter(
        data=message.data,
        failed_at=message.time,
        position=stored.position,
        last_position=stored.position if last is None else last.position,
        settlement=end.data if isinstance(end, TaskSettlement) else None,
    )


def _settled(letter: DeadLetter) -> TaskRejected:
    done = letter.settlement
    words: str = "settled before" if done is None else f"{done.action} before"
    if done is not None and not isinstance(done.redriven_as, UnsetType):
        words = f"redriven before, as {done.redriven_as}"
    task_id = letter.data.task_id
    return TaskRejected(
        f"the dead letter of task {task_id} was {words}",
        code="ALREADY_SETTLED",
        task_id=task_id,
    )


def _is_same(data: SubmitData, agent: str | None, skill: str | None) -> bool:
    """Whether a redriven task went where it is to go now."""
    return agent in (None, data.agent) and skill in (None, data.skill)


def _again(
    letter: DeadLetterData, agent: str | None, skill: str | None, deadline: float
) -> SubmitData:
    """The submission once more, under an id that follows from the failed one's."""
    old = letter.submission
    limits = old.limits if not isinstance(old.limits, UnsetType) else Limits()
    return msgspec.structs.replace(
        old,
        task_id=_next_id(old),
        context_id=old.task_id if isinstance(old.context_id, UnsetType) else old.context_id,
        message=msgspec.structs.replace(old.message, task_id=UNSET, context_id=UNSET),
        limits=msgspec.structs.replace(limits, deadline=format_timestamp(deadline)),
        lineage=UNSET,
        agent=agent or old.agent,
        skill=skill or old.skill,
        contract=old.contract if skill is None and agent is None else UNSET,
        redrive_of=old.task_id,
    )


def _next_id(old: SubmitData) -> str:
    """The id of a redriven task: that of the first one, and how often it was redriven."""
    base, _, count = old.task_id.rpartition("-r")
    if isinstance(old.redrive_of, UnsetType) or not (base and count.isdigit()):
        base, count = old.task_id, "0"
    if len(base) > LONGEST_BASE:
        digest = digest_of(base).removeprefix("sha256:")
        base = f"{base[: LONGEST_BASE - 25]}-{digest[:24]}"
    return f"{base}-r{int(count) + 1}"
