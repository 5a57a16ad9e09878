"""``dragoman ask``: one task submitted, shown as it comes, answered back, canceled on Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
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
from dragoman_gateways.cli.event_loop import run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import error_console
from dragoman_gateways.cli.presenting import JsonPresenter, Presenter, TextPresenter
from dragoman_gateways.cli.settings import Settings

__all__ = ["Question", "ask", "build_input", "parse_target"]

CANCEL_SECONDS = 5.0
"""How long Ctrl-C waits for the task's terminal state."""


@dataclass(kw_only=True)
class Question:
    """What is asked of whom; ``input`` is text, a JSON value or an A2A message."""

    skill: str
    agent: str | None
    input: Any
    deadline: float

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
    return run(_ask(question, settings, presenter))


async def _ask(question: Question, settings: Settings, presenter: Presenter) -> ExitCode:
    with stop_on_signals() as stop:
        async with connect(settings.server_url(), name="cli") as bus:
            started = time.monotonic()
            task = await bus.submit(
                question.skill, question.input, agent=question.agent, deadline=question.deadline
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
    if not (sys.stdin.isatty() and isinstance(presenter, TextPresenter)):
        task.abandon("nobody is there to answer")
        raise LocalError(
            f"the task asks: {task.question}", code="INPUT_REQUIRED", task_id=task.task_id
        )
    presenter.note(f"{task.agent or 'the agent'} asks: {task.question}")
    error_console().print("[bold]> [/]", end="")
    return await _typed_line()


async def _typed_line() -> str:
    """One line from the terminal, read in a thread that does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def deliver(text: str) -> None:
        if not line.done():
            line.set_result(text)

    def read() -> None:
        # Not sys.stdin: its lock, held by a waiting thread, is fatal when the interpreter ends.
        text = os.read(sys.stdin.fileno(), 65536).decode(errors="replace").rstrip("\r\n")
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, text)

    threading.Thread(target=read, daemon=True, name="dragoman answer").start()
    return await line


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
