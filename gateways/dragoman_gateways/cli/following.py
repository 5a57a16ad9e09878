"""A durable task as it goes on, from any position: ``ask --durable`` and ``task watch``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from dragoman_bus.client import Bus, DurableTask
from dragoman_bus.client.durable_task import updates_of
from dragoman_bus.client.result import result_of
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.envelopes import parse_source
from dragoman_bus.protocol.errors import BusUnavailable, LocalError
from dragoman_bus.protocol.messages import TaskFinal
from dragoman_bus.protocol.tasklog import LogEntry
from dragoman_bus.protocol.timestamps import parse_timestamp
from dragoman_gateways.cli.answering import can_answer, typed_answer
from dragoman_gateways.cli.event_loop import first_of
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.presenting import Presenter

__all__ = ["show_durable", "tell_if_nobody"]


async def show_durable(
    task: DurableTask, presenter: Presenter, stop: asyncio.Event, *, after: int = 0
) -> ExitCode:
    """Show what comes after a position of the log, up to the task's end or to ``stop``.

    Raises:
        TaskFailed, TaskCanceled, TaskRejected: the task ended so, or there is none.
        LocalError: ``INPUT_REQUIRED``: it asks, and nobody is there to answer.
    """
    follower = _Follower(task, presenter, after)
    if await first_of(stop, follower.run()) is None:
        presenter.left(task, follower.position)
        return ExitCode.INTERRUPTED
    if task.state is TaskState.FAILED:
        name = task.task_id
        presenter.note(
            f"`dragoman dlq show {name}` tells all, `dragoman dlq redrive {name}` retries"
        )
    presenter.finished(result_of(task.log.task), follower.seconds)
    return ExitCode.OK


async def tell_if_nobody(bus: Bus, agent: str | None, skill: str, presenter: Presenter) -> None:
    """Say that a task waits because nobody is there to take it."""
    with contextlib.suppress(BusUnavailable):
        views = await bus.discover(agent=agent, skill=skill)
        if not any(view.is_ready for view in views):
            whom = f"agent {agent!r} with the skill {skill!r}" if agent else f"skill {skill!r}"
            presenter.note(f"nobody with the {whom} is on the bus now: the task waits for one")


@dataclass(frozen=True)
class _Moment:
    """The task as it was at an entry; what was read of its log may be further."""

    task_id: str
    state: TaskState
    agent: str | None
    instance: str | None

    @classmethod
    def of(cls, entry: LogEntry, task: DurableTask) -> _Moment:
        """The moment of an entry: who wrote it had the task."""
        worker = parse_source(entry.message.source) or (None, None)
        return cls(task.task_id, task.state, *worker)


class _Follower:
    """Reads a task's log into a presenter; ``position`` is how far the user has seen it."""

    def __init__(self, task: DurableTask, presenter: Presenter, after: int) -> None:
        self.position = after
        self.seconds = 0.0
        self._task = task
        self._presenter = presenter
        self._after = after

    async def run(self) -> bool:
        """Follow to the end; whether it was reached, which it was."""
        async with contextlib.aclosing(self._task.entries()) as entries:
            async for entry in entries:
                self._show(entry)
                if isinstance(entry.message, TaskFinal):
                    self.seconds = self._age_at(entry.message.time)
                elif entry.position == self._task.log.spine and self._task.question is not None:
                    await self._answer(self._task.question)
        return True

    def _show(self, entry: LogEntry) -> None:
        moment = _Moment.of(entry, self._task)
        for update in updates_of(entry, self._task.log):
            if entry.position > self._after:
                self._presenter.update(moment, update, entry.position)
            else:
                self._presenter.known(update)
        self.position = max(self.position, entry.position)

    def _age_at(self, moment: str) -> float:
        submission = self._task.log.submission
        begun = time.time() if submission is None else parse_timestamp(submission.time)
        return max(0.0, parse_timestamp(moment) - begun)

    async def _answer(self, question: str) -> None:
        name = self._task.task_id
        if not can_answer(self._presenter):
            raise LocalError(
                f"the task waits and asks: {question} (answer it with "
                f"`dragoman task reply {name} TEXT`, then `dragoman task watch {name}`)",
                code="INPUT_REQUIRED",
                task_id=name,
            )
        await self._task.reply(await typed_answer(self._task.agent, question, self._presenter))
