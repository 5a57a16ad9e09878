"""``dragoman ask``: one task submitted, shown as it comes, answered back, canceled on Ctrl-C."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from dragoman_bus.client import Bus, TaskHandle, connect
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import Message, Part, Role, TaskState, text_part
from dragoman_bus.protocol.errors import (
    AgentUnavailable,
    DragomanError,
    InvalidInput,
    LocalError,
)
from dragoman_bus.protocol.subjects import check_token
from dragoman_gateways.cli.answering import can_answer, typed_answer
from dragoman_gateways.cli.event_loop import run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.following import show_durable, tell_if_nobody
from dragoman_gateways.cli.output import write_text
from dragoman_gateways.cli.presenting import JsonPresenter, Presenter, TextPresenter
from dragoman_gateways.cli.settings import Settings

__all__ = ["Durable", "Question", "ask", "build_input", "parse_target"]

CANCEL_SECONDS = 5.0
"""How long Ctrl-C waits for the task's terminal state."""


@dataclass(kw_only=True)
class Durable:
    """How a durable task is submitted; ``None`` leaves it to the bus."""

    task_id: str | None = None
    class_: str | None = None
    attempts: int | None = None
    detach: bool = False
    ordered: bool = False

    def options(self) -> dict[str, Any]:
        """The same as options of ``Bus.submit``."""
        return {
            "delivery": "durable",
            "task_id": self.task_id,
            "class_": self.class_,
            "maximum_attempts": self.attempts,
            "ordered": self.ordered,
        }


@dataclass(kw_only=True)
class Question:
    """What is asked of whom; ``input`` is text, a JSON value or an A2A message.

    ``options`` are those of ``Bus.submit``. Without ``durable`` the task is delivered directly.
    """

    skill: str
    agent: str | None
    input: Any
    options: dict[str, Any]
    durable: Durable | None = None

    @property
    def target(self) -> str:
        """``agent/skill``, or the skill."""
        return f"{self.agent}/{self.skill}" if self.agent else self.skill


def parse_target(target: str, agent: str | None) -> tuple[str, str | None]:
    """``(skill, agent)`` of ``SKILL`` or ``AGENT/SKILL``; ``agent`` is what ``--agent`` says.

    Raises:
        ProtocolError: a name is not a token.
        InvalidInput: the two name different agents.
    """
    named, separator, skill = target.rpartition("/")
    if separator and agent not in (None, named):
        raise InvalidInput(f"{target!r} names the agent {named!r}, and --agent {agent!r}")
    chosen = named if separator else agent
    if chosen is not None:
        check_token(chosen, "agent name")
    return check_token(skill, "skill name"), chosen


def build_input(text: str | None, document: str | None) -> Any:
    """The task's input from text and from a JSON document, either of which may be absent.

    With both, the document's members are the input and the text fills the skill's text member.

    Raises:
        InvalidInput: the document is not JSON, or not an object where there is text too.
    """
    if document is None:
        return {} if text is None else text
    try:
        value = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"--input is not a JSON document: {error}") from None
    if text is None:
        return value
    if not isinstance(value, dict):
        raise InvalidInput("--input must be a JSON object when there is text too")
    data = Part(data=msgspec.Raw(document.encode()), media_type="application/json")
    return Message(message_id=new_identifier(), role=Role.USER, parts=[data, text_part(text)])


def ask(question: Question, settings: Settings) -> ExitCode:
    """Ask and show the answer; see ``dragoman ask --help``."""
    presenter: Presenter = JsonPresenter() if settings.json else TextPresenter()
    if question.durable is not None:
        return run(_ask_durably(question, question.durable, settings, presenter))
    return run(_ask(question, settings, presenter))


async def _ask_durably(
    question: Question, how: Durable, settings: Settings, presenter: Presenter
) -> ExitCode:
    """Submit a task that outlives this program, and show it unless it is left alone."""
    with stop_on_signals() as stop:
        async with connect(settings.server_url(), name="cli") as bus:
            task = await bus.submit(
                question.skill,
                question.input,
                agent=question.agent,
                **question.options,
                **how.options(),
            )
            if how.detach and not settings.json:
                write_text(f"{task.task_id}\n")
                return ExitCode.OK
            presenter.submitted(task, question.target, durable=True)
            if how.detach:
                return ExitCode.OK
            await tell_if_nobody(bus, question.agent, question.skill, presenter)
            return await show_durable(task, presenter, stop)


async def _ask(question: Question, settings: Settings, presenter: Presenter) -> ExitCode:
    with stop_on_signals() as stop:
        async with connect(settings.server_url(), name="cli") as bus:
            started = time.monotonic()
            task = await bus.submit(
                question.skill, question.input, agent=question.agent, **question.options
            )
            presenter.submitted(task, question.target)
            reading = asyncio.create_task(_read(task, presenter))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    return await _cancel(task, reading, presenter)
                await reading
                presenter.finished(await task.result(), time.monotonic() - started)
            except AgentUnavailable as error:
                raise await _with_advice(error, question, bus) from None
            except asyncio.CancelledError:
                task.abandon("the user left")
                raise
            finally:
                stopping.cancel()
                reading.cancel()
    return ExitCode.OK


async def _read(task: TaskHandle, presenter: Presenter) -> None:
    async for update in task:
        presenter.update(task, update)
        if task.state is TaskState.INPUT_REQUIRED and task.question is not None:
            await task.reply(await _answer(task, presenter))


async def _answer(task: TaskHandle, presenter: Presenter) -> str:
    """What the user types. Without a terminal nobody can: the task is canceled."""
    if not can_answer(presenter):
        task.abandon("nobody is there to answer")
        raise LocalError(
            f"the task asks: {task.question}", code="INPUT_REQUIRED", task_id=task.task_id
        )
    return await typed_answer(task.agent, task.question or "", presenter)


async def _cancel(task: TaskHandle, reading: asyncio.Task[None], presenter: Presenter) -> ExitCode:
    presenter.note("canceling; Ctrl-C again leaves at once")
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await task.cancel("interrupted by the user")
    except TimeoutError:
        presenter.note("the agent did not confirm the cancellation in time")
    except DragomanError as error:
        presenter.note(f"not confirmed: {error.message}")
    else:
        presenter.canceled(task)
    return ExitCode.INTERRUPTED


async def _with_advice(error: AgentUnavailable, question: Question, bus: Bus) -> AgentUnavailable:
    """The error, with the skills that are there now."""
    try:
        views = await bus.discover(agent=question.agent)
    except DragomanError:
        return error
    skills = sorted({skill for view in views for skill in view.skills})
    where = f"agent {question.agent!r} offers" if question.agent and views else "the bus offers"
    offer = f"{where}: {', '.join(skills)}" if skills else "no agent is on the bus"
    return AgentUnavailable(
        f"nobody serves {question.target!r} now; {offer}",
        retryable=error.retryable,
        task_id=error.task_id,
        details={"skills": skills},
    )
