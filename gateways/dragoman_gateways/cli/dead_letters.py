"""``dragoman dlq``: dead letters listed, shown, redriven and dropped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman_bus.client import Bus, DeadLetter
from dragoman_bus.protocol.errors import AgentUnavailable, DragomanError, TaskRejected
from dragoman_bus.registry.view import AgentView
from dragoman_gateways.cli.bus_work import on_bus
from dragoman_gateways.cli.dead_letter_facts import (
    letter_document,
    letter_summary,
    letters_table,
    print_letter,
)
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.failures import report_failure
from dragoman_gateways.cli.output import console, error_console, write_json, write_text
from dragoman_gateways.cli.settings import Settings

__all__ = ["Redrive", "drop_letters", "list_letters", "redrive_letters", "show_letter"]


@dataclass(kw_only=True)
class Redrive:
    """How failed tasks are submitted again; ``None`` leaves it as it was.

    With ``force``, the agent need not be there.
    """

    agent: str | None
    force: bool
    model: str | None
    skill: str | None
    deadline: float
    reason: str


def list_letters(
    settings: Settings, *, skill: str | None, settled: bool, limit: int, page: int | None
) -> ExitCode:
    """Show a page of dead letters; see ``dragoman dlq ls --help``."""

    async def show(bus: Bus) -> ExitCode:
        found: list[DeadLetter] = []
        letters = bus.durable.dead_letters.all(skill=skill or "*", settled=settled, after=page or 0)
        async for letter in letters:
            found.append(letter)
            if len(found) > limit:
                break
        following = found[limit - 1].position if len(found) > limit else None
        _show_page(found[:limit], following, settings, settled=settled)
        return ExitCode.OK

    return on_bus(show, settings)


def _show_page(
    letters: list[DeadLetter], following: int | None, settings: Settings, *, settled: bool
) -> None:
    if settings.json:
        page: dict[str, Any] = {"deadLetters": [letter_summary(letter) for letter in letters]}
        write_json(page if following is None else page | {"next": following})
    elif letters:
        console().print(letters_table(letters, settled=settled))
        if following is not None:
            words = f"There are more: the same with --page {following}."
            error_console().print(words, style="dim", markup=False)
    else:
        words = "There is no dead letter." if settled else "There is no open dead letter."
        error_console().print(words, style="dim")


def show_letter(task_id: str, settings: Settings) -> ExitCode:
    """Show one dead letter; see ``dragoman dlq show --help``."""

    async def show(bus: Bus) -> ExitCode:
        letter = await bus.durable.dead_letters.get(task_id)
        if settings.json:
            write_json(letter_document(letter))
        else:
            print_letter(letter)
        return ExitCode.OK

    return on_bus(show, settings)


def redrive_letters(task_ids: Sequence[str], how: Redrive, settings: Settings) -> ExitCode:
    """Submit failed tasks again; see ``dragoman dlq redrive --help``."""

    async def redrive(bus: Bus, task_id: str) -> None:
        letters = bus.durable.dead_letters
        letter = await letters.get(task_id)
        agent, skill = how.agent, how.skill or letter.data.submission.skill
        if how.model is not None:
            agent = _with_model(await bus.discover(skill=skill), skill, how.model)
        elif agent is not None and letter.is_open and not how.force:
            _check_there(await bus.discover(agent=agent), agent, skill, task_id)
        new = await letters.redrive(
            task_id, agent=agent, skill=how.skill, deadline=how.deadline, reason=how.reason
        )
        _tell_redriven(task_id, new, settings, before=not letter.is_open)

    return _for_each(task_ids, redrive, settings)


def drop_letters(task_ids: Sequence[str], reason: str, settings: Settings) -> ExitCode:
    """Settle dead letters; see ``dragoman dlq drop --help``."""

    async def drop(bus: Bus, task_id: str) -> None:
        await bus.durable.dead_letters.drop(task_id, reason=reason)
        if settings.json:
            write_json({"event": "dropped", "taskId": task_id})
        else:
            error_console().print(f"· {task_id} is dropped", style="dim", markup=False)

    return _for_each(task_ids, drop, settings)


def _for_each(
    task_ids: Sequence[str], work: Callable[[Bus, str], Awaitable[None]], settings: Settings
) -> ExitCode:
    """Do all; one that fails is told, and decides the exit code, and the others are done."""

    async def working(bus: Bus) -> ExitCode:
        code = ExitCode.OK
        for task_id in dict.fromkeys(task_ids):
            try:
                await work(bus, task_id)
            except DragomanError as error:
                code = report_failure(error, settings)
        return code

    return on_bus(working, settings)


def _check_there(views: list[AgentView], agent: str, skill: str, task_id: str) -> None:
    """Refuse an agent that would leave the task waiting: its name may be misspelled.

    Args:
        views: All that is on the bus under its name.

    Raises:
        AgentUnavailable: no instance of it takes tasks now.
        TaskRejected: ``UNKNOWN_SKILL``.
    """
    ready = [view for view in views if view.is_ready]
    if any(view.offers(skill=skill) for view in ready):
        return
    otherwise = f"so {task_id} is not redriven; with --force it is, and waits for such an agent"
    if not ready:
        words = f"no agent {agent!r} that takes tasks is on the bus, {otherwise}"
        raise AgentUnavailable(words, task_id=task_id)
    known = ", ".join(sorted({name for view in ready for name in view.skills}))
    words = f"agent {agent!r} has no skill {skill!r} (it has: {known}), {otherwise}"
    raise TaskRejected(words, code="UNKNOWN_SKILL", task_id=task_id)


def _with_model(views: list[AgentView], skill: str, model: str) -> str:
    """The least loaded agent that has the skill with this model.

    Raises:
        AgentUnavailable: none has; the message tells the models there are.
    """
    ready = [view for view in views if view.is_ready]
    fitting = [view for view in ready if _has(view, model)]
    if not fitting:
        known = sorted({name for view in ready for name in view.model_names()})
        there = f"there are: {', '.join(known)}" if known else "no model is there for it"
        raise AgentUnavailable(
            f"no agent on the bus has the skill {skill!r} with the model {model!r}; {there}",
            details={"models": known},
        )
    return min(fitting, key=_load).name


def _has(view: AgentView, model: str) -> bool:
    """Whether a model is named in full, or by what follows its provider."""
    return any(model in (name, name.partition("/")[2]) for name in view.model_names())


def _load(view: AgentView) -> float:
    slots = sum(lease.slots for lease in view.instances)
    return sum(lease.running + lease.queued for lease in view.instances) / max(1, slots)


def _tell_redriven(task_id: str, new: str, settings: Settings, *, before: bool) -> None:
    if settings.json:
        write_json({"event": "redriven", "taskId": task_id, "redrivenAs": new, "before": before})
        return
    write_text(f"{new}\n")
    words = "was redriven before, as" if before else "is redriven as"
    note = f"· {task_id} {words} {new}; `dragoman task watch {new}` shows it"
    error_console().print(note, style="dim", markup=False)
