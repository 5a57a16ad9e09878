"""``dragoman task replay``: the log of a durable task, entry by entry, and live if wanted."""

from __future__ import annotations

from rich.text import Text

from dragoman_bus.client import DurableTask, connect
from dragoman_bus.durable import LogStore
from dragoman_bus.protocol.a2a import TaskState, TaskStatusUpdateEvent
from dragoman_bus.protocol.contracts import text_of
from dragoman_bus.protocol.errors import TaskRejected
from dragoman_bus.protocol.messages import (
    TaskArtifact,
    TaskCancel,
    TaskChild,
    TaskFinal,
    TaskOutbox,
    TaskReply,
    TaskStatusUpdate,
    TaskStep,
    TaskSubmit,
    type_of,
)
from dragoman_bus.protocol.tasklog import LogEntry
from dragoman_gateways.cli.event_loop import first_of, run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import console, printable, write_json
from dragoman_gateways.cli.presenting import artifact_text, state_word, status_text
from dragoman_gateways.cli.settings import Settings
from dragoman_gateways.cli.task_facts import error_words, input_text, whom
from dragoman_gateways.cli.words import clock_time, plural, source_name

__all__ = ["entry_words", "replay_task"]


def replay_task(task_id: str, settings: Settings, *, after: int, follow: bool) -> ExitCode:
    """Show the log above a position; see ``dragoman task replay --help``."""

    async def replay() -> ExitCode:
        with stop_on_signals() as stop:
            async with connect(settings.server_url(), name="cli") as bus:
                task, store = bus.durable.task(task_id), bus.durable.store
                work = _replay(task, store, settings, after, follow)
                return await first_of(stop, work) or ExitCode.OK

    return run(replay())


async def _replay(
    task: DurableTask, store: LogStore, settings: Settings, after: int, follow: bool
) -> ExitCode:
    entries = await store.entries(task.task_id)
    if not entries:
        raise TaskRejected(
            "there is no such durable task", code="TASK_NOT_FOUND", task_id=task.task_id
        )
    for entry in entries:
        if entry.position > after:
            _show(entry, settings)
    if follow:
        async for entry in task.entries(after=max(after, entries[-1].position)):
            _show(entry, settings)
    return ExitCode.OK


def _show(entry: LogEntry, settings: Settings) -> None:
    message = entry.message
    if settings.json:
        write_json(
            {
                "event": type_of(message),
                "position": entry.position,
                "kind": entry.kind,
                "message": message,
            }
        )
        return
    line = Text(f"{entry.position:>6}  ", style="dim")
    line.append(f"{clock_time(message.time, fraction=True)}  ")
    line.append(f"{entry.kind:<8}", style="bold not dim")
    line.append(f"{printable(source_name(message.source)):<26}  ", style="dim")
    line.append(printable(entry_words(entry)), style="not dim")
    terminal = console().is_terminal
    console().print(line, no_wrap=terminal, overflow="ellipsis", soft_wrap=not terminal)


def entry_words(entry: LogEntry) -> str:
    """What an entry says, in one line."""
    message = entry.message
    words: str
    match message:
        case TaskSubmit(data=data):
            words = f"{whom(data)}: {input_text(data)}"
        case TaskFinal() | TaskStatusUpdate():
            words = _status_words(message)
        case TaskArtifact(data=artifact):
            update = artifact.artifact_update
            words = f"{update.artifact.artifact_id}: {artifact_text(update)}"
        case TaskStep(data=step):
            words = f"{step.name}: {bytes(step.output).decode()}"
        case TaskChild(data=child):
            words = f"{child.skill}: {child.child_task_id}"
        case TaskCancel(data=wish):
            words = f"cancel: {wish.reason or 'no reason given'}"
        case TaskReply(data=reply):
            words = f"reply: {text_of(reply.message.parts) or ''}"
        case TaskOutbox(data=outbox):
            submissions = plural(len(outbox.submissions or ()), "task")
            words = f"to send: {submissions}, {plural(len(outbox.events or ()), 'event')}"
        case _:
            words = type_of(message)
    return " ".join(words.split())


def _status_words(message: TaskFinal | TaskStatusUpdate) -> str:
    update: TaskStatusUpdateEvent = message.data.status_update
    error = message.data.error
    state = update.status.state
    # A claim with an error takes the task from its worker (spec/durable.md, DUR-85).
    to_end = isinstance(message, TaskStatusUpdate) and state is TaskState.WORKING and bool(error)
    word = "taken to be ended" if to_end else state_word(state)
    words = [f"{word}, attempt {message.data.attempt}"]
    if status_text(update):
        words.append(status_text(update))
    if error:
        words.append(error_words(error))
    return ": ".join(words)
