"""``dragoman task``: one task, a list of tasks, a stream that goes on, an answer, a cancel."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rich.table import Table

from dragoman_bus.client import Bus, DurableTask, TaskSummary, connect
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import TaskRejected
from dragoman_gateways.cli.asking import build_input
from dragoman_gateways.cli.bus_work import on_bus
from dragoman_gateways.cli.event_loop import run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.following import show_durable
from dragoman_gateways.cli.output import console, error_console, printable, write_json
from dragoman_gateways.cli.presenting import (
    JsonPresenter,
    Presenter,
    TextPresenter,
    state_style,
    state_word,
)
from dragoman_gateways.cli.settings import Settings
from dragoman_gateways.cli.tables import cell, make_table
from dragoman_gateways.cli.task_facts import print_task, task_document
from dragoman_gateways.cli.words import list_time

__all__ = ["Query", "cancel_task", "get_task", "list_tasks", "reply_to_task", "watch_task"]


@dataclass(kw_only=True)
class Query:
    """Which tasks to list, and which page of them."""

    state: str | None
    skill: str | None
    context: str | None
    since: float | None
    until: float | None
    oldest_first: bool
    limit: int
    page: int | None

    @property
    def task_state(self) -> TaskState | None:
        """``working`` as the protocol spells it."""
        if self.state is None:
            return None
        return TaskState(f"TASK_STATE_{self.state.upper().replace('-', '_')}")


def get_task(task_id: str, settings: Settings) -> ExitCode:
    """Show one task; see ``dragoman task get --help``."""

    async def show(bus: Bus) -> ExitCode:
        log = await bus.durable.task(task_id).refresh()
        if settings.json:
            write_json(task_document(log))
        else:
            print_task(log)
        return ExitCode.OK

    return on_bus(show, settings)


def list_tasks(query: Query, settings: Settings) -> ExitCode:
    """Show a page of a list; see ``dragoman task list --help``."""

    async def show(bus: Bus) -> ExitCode:
        found = await _page(bus, query)
        more = len(found) > query.limit
        shown = found[: query.limit]
        following = shown[-1].position if more else None
        if settings.json:
            page = {"tasks": shown}
            write_json(page if following is None else page | {"next": following})
        elif shown:
            console().print(_table(shown))
            if following is not None:
                words = f"There are more: the same with --page {following}."
                error_console().print(words, style="dim", markup=False)
        else:
            error_console().print("No durable task fits.", style="dim")
        return ExitCode.OK

    return on_bus(show, settings)


def watch_task(task_id: str, settings: Settings, *, after: int) -> ExitCode:
    """Follow one task to its end; see ``dragoman task watch --help``."""
    presenter: Presenter = JsonPresenter() if settings.json else TextPresenter()

    async def watch() -> ExitCode:
        with stop_on_signals() as stop:
            async with connect(settings.server_url(), name="cli") as bus:
                return await show_durable(bus.durable.task(task_id), presenter, stop, after=after)

    return run(watch())


def reply_to_task(
    task_id: str, text: str | None, document: str | None, settings: Settings
) -> ExitCode:
    """Answer a task's question; see ``dragoman task reply --help``."""
    value = build_input(sys.stdin.read() if text == "-" else text, document)

    async def reply(bus: Bus) -> ExitCode:
        await bus.durable.task(task_id).reply(value)
        _tell(settings, "replied", task_id, f"answered; `dragoman task watch {task_id}` goes on")
        return ExitCode.OK

    return on_bus(reply, settings)


def cancel_task(task_id: str, reason: str, settings: Settings, *, wait: bool) -> ExitCode:
    """Cancel one task; see ``dragoman task cancel --help``."""

    async def cancel(bus: Bus) -> ExitCode:
        task = bus.durable.task(task_id)
        if (await task.refresh()).ended:
            raise _too_late(task, "had ended before")
        if not wait:
            await task.request_cancel(reason)
            _tell(settings, "cancel-requested", task_id, "the wish is stored, and lands by itself")
            return ExitCode.OK
        if await task.cancel(reason) is not TaskState.CANCELED:
            raise _too_late(task, "ended before the cancel reached it")
        _tell(settings, "canceled", task_id, "canceled, and all that it delegated")
        return ExitCode.OK

    return on_bus(cancel, settings)


def _too_late(task: DurableTask, words: str) -> TaskRejected:
    return TaskRejected(
        f"the task {words}: {state_word(task.state)}",
        code="TASK_NOT_CANCELABLE",
        task_id=task.task_id,
    )


def _tell(settings: Settings, event: str, task_id: str, words: str) -> None:
    if settings.json:
        write_json({"event": event, "taskId": task_id})
    else:
        error_console().print(f"· {printable(words)}", style="dim", markup=False)


async def _page(bus: Bus, query: Query) -> list[TaskSummary]:
    """The page, and one more when the list goes on."""
    found: list[TaskSummary] = []
    tasks = bus.durable.tasks(
        state=query.task_state,
        skill=query.skill,
        context_id=query.context,
        since=query.since,
        until=query.until,
        latest_first=not query.oldest_first,
        after=query.page or 0 if query.oldest_first else 0,
        before=None if query.oldest_first else query.page,
    )
    async for summary in tasks:
        found.append(summary)
        if len(found) > query.limit:
            break
    return found


def _table(tasks: list[TaskSummary]) -> Table:
    table = make_table(("TASK", "STATE", "SUBMITTED", "ATTEMPT", "SKILL", "AGENT"))
    for task in tasks:
        table.add_row(
            cell(task.task_id),
            cell(state_word(task.state), state_style(task.state)),
            cell(list_time(task.submitted_at), "dim"),
            str(task.attempt or ""),
            cell(task.skill, "bold"),
            cell(task.agent or ""),
        )
    return table
