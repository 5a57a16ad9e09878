"""Labelled questions put to the members of an ensemble, and what they answered, in files.

A file has one JSON object per line. What is answered is written at once, so that a run which is
interrupted goes on where it was, and no answer is paid for twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import UnsetType

from dragoman_agents.ensembles.agents.base import subject_of
from dragoman_agents.ensembles.agents.lessons import Lesson, Reply
from dragoman_agents.ensembles.agents.spending import BYTES_PER_TOKEN
from dragoman_agents.ensembles.agreement import Agreement, Exact
from dragoman_bus.client import Bus, Result
from dragoman_bus.protocol.errors import DragomanError, InvalidInput
from dragoman_bus.protocol.payloads import Contract, Cost
from dragoman_bus.validation import validate_value

__all__ = ["School", "read_lessons"]


def read_lessons(path: Path) -> list[Lesson]:
    """The lessons of a file, with the answers that stand in it.

    Raises:
        InvalidInput: a line is no lesson; its number is told.
    """
    lessons = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            lessons.append(msgspec.json.decode(line, type=Lesson))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f'{path}, line {number}: {error}; a line is {{"input": ..., "truth": ...}}'
            ) from None
    return lessons


class School:
    """Puts questions to members.

    Args:
        lessons: The questions.
        members: Whom to ask.
        kept: Where answers are kept; ``None`` keeps none.
    """

    def __init__(
        self, lessons: Sequence[Lesson], members: Sequence[str], kept: Path | None
    ) -> None:
        self.lessons = list(lessons)
        self._members = tuple(members)
        self._kept = kept
        if kept is not None and kept.exists():
            known = {_key(one): one for one in read_lessons(kept)}
            for lesson in self.lessons:
                before = known.get(_key(lesson))
                if before is not None:
                    lesson.answers = before.answers | lesson.answers
                    lesson.input_tokens = lesson.input_tokens or before.input_tokens

    @property
    def open(self) -> list[tuple[Lesson, list[str]]]:
        """Who has to be asked what."""
        pairs = ((lesson, self._silent(lesson)) for lesson in self.lessons)
        return [(lesson, names) for lesson, names in pairs if names]

    def describe(self, contract: Contract | None, subject: str | None) -> None:
        """Reckon lengths and subjects as the ensemble does.

        Args:
            contract: That of the skill.
            subject: The member of the input that names the subject.
        """
        name = None if contract is None else contract.text_input
        for lesson in self.lessons:
            input = lesson.input
            if isinstance(input, str) and isinstance(name, str):
                input = {name: input}
            lesson.subject = subject_of(input, subject)
            if lesson.input_tokens is None:
                lesson.input_tokens = len(msgspec.json.encode(input)) // BYTES_PER_TOKEN

    def check_truths(self, contract: Contract | None, agreement: Agreement) -> None:
        """Refuse what no answer can ever be equal to, before anybody is paid for answers.

        Raises:
            InvalidInput: a truth is of another type than answers, or cannot be compared.
        """
        kind = None
        if contract is not None and isinstance(agreement, Exact):
            kind = contract.output_schema.get("type")
        for lesson in self.lessons:
            fits = kind is None or not validate_value({"type": kind}, lesson.truth)
            if not fits or not agreement.usable(lesson.truth):
                told = msgspec.json.encode(lesson.truth).decode()
                asked = msgspec.json.encode(lesson.input).decode()
                raise InvalidInput(
                    f"the truth {told} of the question {asked[:200]} cannot be compared with "
                    "answers: write it as members write theirs"
                )

    async def ask(
        self,
        bus: Bus,
        skill: str,
        *,
        at_once: int,
        deadline: float,
        done: Callable[[int, int], None],
    ) -> None:
        """Ask whatever is open.

        Args:
            bus: Where the members are.
            skill: What they are asked.
            at_once: How many questions at the same time.
            deadline: Seconds for each answer.
            done: Told how many questions of how many are through.
        """
        room = asyncio.Semaphore(at_once)
        work = self.open
        through = 0

        async def one(lesson: Lesson, names: Sequence[str]) -> None:
            nonlocal through
            async with room:
                asked = (_reply(bus, skill, lesson, name, deadline) for name in names)
                replies = await asyncio.gather(*asked)
            lesson.answers |= dict(zip(names, replies, strict=True))
            self._keep(lesson)
            through += 1
            done(through, len(work))

        async with asyncio.TaskGroup() as group:
            for lesson, names in work:
                group.create_task(one(lesson, names))

    def _silent(self, lesson: Lesson) -> list[str]:
        """Who gave no answer; an error may have been bad luck."""
        said = lesson.values(self._members)
        return [name for name in self._members if name not in said]

    def _keep(self, lesson: Lesson) -> None:
        if self._kept is not None:
            with self._kept.open("ab") as file:
                file.write(msgspec.json.encode(lesson) + b"\n")


async def _reply(bus: Bus, skill: str, lesson: Lesson, member: str, deadline: float) -> Reply:
    try:
        result = await bus.ask(skill, lesson.input, agent=member, deadline=deadline)
    except DragomanError as error:
        return Reply(error=error.code)
    cost = _cost(result)
    return Reply(
        value=result.value,
        output_tokens=_tokens(result),
        cost=None if cost is None else cost.amount,
        currency=None if cost is None else cost.currency,
    )


def _tokens(result: Result) -> int | None:
    tokens = None if result.usage is None else result.usage.output_tokens
    return None if isinstance(tokens, UnsetType) else tokens


def _cost(result: Result) -> Cost | None:
    cost = None if result.usage is None else result.usage.cost
    return None if isinstance(cost, UnsetType) else cost


def _key(lesson: Lesson) -> bytes:
    return msgspec.json.encode(lesson.input, order="sorted")
