"""How an answer appears while it arrives: as text for people, as JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from dragoman_bus.client.result import Result
from dragoman_bus.client.stream import Update
from dragoman_bus.protocol.a2a import (
    Part,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
)
from dragoman_bus.protocol.contracts import OUTPUT_ARTIFACT, text_of
from dragoman_gateways.cli.accounts import print_account
from dragoman_gateways.cli.output import error_console, printable, write_json, write_text
from dragoman_gateways.cli.words import duration, model_name, short_instance, usage_words, who

__all__ = [
    "Handle",
    "JsonPresenter",
    "Presenter",
    "TextPresenter",
    "artifact_text",
    "parts_text",
    "state_style",
    "state_word",
    "status_text",
    "value_text",
]


class Handle(Protocol):
    """What is shown of a task, direct or durable."""

    @property
    def task_id(self) -> str:
        """The task's id."""

    @property
    def agent(self) -> str | None:
        """Who works on it, once known."""

    @property
    def instance(self) -> str | None:
        """Which instance works on it, once known."""

    @property
    def state(self) -> TaskState:
        """The state as far as it is known."""


class Presenter(Protocol):
    """Shows one task."""

    def submitted(self, task: Handle, target: str, *, durable: bool = False) -> None:
        """The task was published; when it is ``durable``, it outlives this program."""

    def known(self, update: Update) -> None:
        """What the user has seen before; an update after it may continue it."""

    def update(self, task: Handle, update: Update, position: int | None = None) -> None:
        """An update arrived; that of a durable task has a position in its log."""

    def finished(self, result: Result, seconds: float) -> None:
        """The task completed ``seconds`` after it was published."""

    def canceled(self, task: Handle) -> None:
        """The task ended after Ctrl-C, in the state it has now."""

    def left(self, task: Handle, position: int) -> None:
        """The user leaves a durable task, having seen its log up to ``position``."""

    def note(self, text: str) -> None:
        """Something about the task that is no update."""


class JsonPresenter:
    """JSON lines: ``submitted``, ``status``, ``artifact``, ``result``; errors come elsewhere."""

    def submitted(self, task: Handle, target: str, *, durable: bool = False) -> None:
        """The first line: the task's id."""
        document = {"event": "submitted", "taskId": task.task_id, "target": target}
        write_json(document | ({"delivery": "durable"} if durable else {}))

    def known(self, update: Update) -> None:
        """Nothing: a line stands for itself."""

    def update(self, task: Handle, update: Update, position: int | None = None) -> None:
        """An A2A update, whole, under its A2A name."""
        place = {} if position is None else {"position": position}
        if isinstance(update, TaskArtifactUpdateEvent):
            write_json({"event": "artifact", **place, "artifactUpdate": update})
        else:
            write_json({"event": "status", **place, "statusUpdate": update})

    def finished(self, result: Result, seconds: float) -> None:
        """The last line: value, receipt, usage, seconds and the A2A task."""
        document: dict[str, Any] = {
            "event": "result",
            "taskId": result.task_id,
            "seconds": round(seconds, 6),
            "value": result.value,
            "task": result.task,
        }
        if result.receipt is not None:
            document["receipt"] = result.receipt
        if result.usage is not None:
            document["usage"] = result.usage
        write_json(document)

    def canceled(self, task: Handle) -> None:
        """The last line after Ctrl-C: the state in which the task ended."""
        write_json({"event": "canceled", "taskId": task.task_id, "state": task.state.value})

    def left(self, task: Handle, position: int) -> None:
        """The last line after Ctrl-C: the task goes on, and from where it can be watched."""
        state = task.state.value
        write_json({"event": "left", "taskId": task.task_id, "position": position, "state": state})

    def note(self, text: str) -> None:
        """Nothing: notes are for people."""


class TextPresenter:
    """The answer on standard output as it comes; progress and the receipt on standard error."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._at_line_start = True
        self._last_status = ""

    def submitted(self, task: Handle, target: str, *, durable: bool = False) -> None:
        """Say what is waited for: on a terminal, or when somebody may want to come back."""
        if durable:
            self.note(f"{target}: durable task {task.task_id}")
        elif sys.stderr.isatty():
            self.note(f"{target}: task {task.task_id}")

    def known(self, update: Update) -> None:
        """Remember what was shown, so that only what follows is shown."""
        if isinstance(update, TaskArtifactUpdateEvent):
            artifact = update.artifact.artifact_id
            before = self._shown.get(artifact, "") if update.append is True else ""
            self._shown[artifact] = before + artifact_text(update)

    def update(self, task: Handle, update: Update, position: int | None = None) -> None:
        """Show what is new."""
        if isinstance(update, TaskArtifactUpdateEvent):
            self._artifact(update)
        else:
            self._status(task, update)

    def finished(self, result: Result, seconds: float) -> None:
        """Finish the answer's last line, then say who answered, how, and how long it took."""
        if not self._shown.get(OUTPUT_ARTIFACT) and result.output is not None:
            self._write(value_text(result.value))
        self._end_line()
        receipt = result.receipt
        model = model_name(UNSET if receipt is None else receipt.model)
        facts = [who(receipt), model, duration(seconds), usage_words(result.usage)]
        error_console().print(
            f"[green]✓[/] {' · '.join(fact for fact in facts if fact)}", style="dim", markup=True
        )
        print_account(receipt)

    def left(self, task: Handle, position: int) -> None:
        """Say that it goes on, and how to come back."""
        name = task.task_id
        self.note(
            f"the task goes on; `dragoman task watch {name} --after {position}` continues here, "
            f"`dragoman task cancel {name}` stops it"
        )

    def canceled(self, task: Handle) -> None:
        """Say how it ended: a task may finish before the cancellation reaches it."""
        self.note(f"the task ended: {state_word(task.state)}")

    def note(self, text: str) -> None:
        """A dim line on standard error."""
        self._end_line()
        error_console().print(f"· {printable(text)}", style="dim", markup=False)

    def _artifact(self, update: TaskArtifactUpdateEvent) -> None:
        artifact = update.artifact
        text = artifact_text(update)
        shown = self._shown.get(artifact.artifact_id, "")
        if update.append is True:
            self._shown[artifact.artifact_id] = shown + text
            self._write(text)
        elif text.startswith(shown):
            # A final artifact repeats what was streamed: only what is new is shown.
            self._shown[artifact.artifact_id] = text
            if artifact.artifact_id != OUTPUT_ARTIFACT and not shown:
                self.note(f"artifact {artifact.artifact_id}:")
            self._write(text[len(shown) :])
        else:
            self.note("the agent replaced what it had sent:")
            self._shown[artifact.artifact_id] = text
            self._write(text)

    def _status(self, task: Handle, update: TaskStatusUpdateEvent) -> None:
        if update.status.state not in (TaskState.SUBMITTED, TaskState.WORKING):
            return
        words = status_text(update)
        agent = task.agent or "an agent"
        where = f" ({short_instance(task.instance)})" if task.instance else ""
        line = f"{agent}{where} {words or _STATE_WORDS[update.status.state]}"
        # Keep-alives repeat the state: said once is enough.
        if line != self._last_status and (words or sys.stderr.isatty()):
            self._last_status = line
            self.note(line)

    def _write(self, text: str) -> None:
        if text:
            write_text(text)
            self._at_line_start = text.endswith("\n")

    def _end_line(self) -> None:
        if not self._at_line_start:
            write_text("\n")
            self._at_line_start = True


_STATE_WORDS = {TaskState.SUBMITTED: "has queued it", TaskState.WORKING: "is working"}


_STYLES = {
    TaskState.COMPLETED: "green",
    TaskState.FAILED: "red",
    TaskState.REJECTED: "red",
    TaskState.CANCELED: "yellow",
    TaskState.INPUT_REQUIRED: "magenta",
}


def state_word(state: TaskState) -> str:
    """``working`` for ``TASK_STATE_WORKING``."""
    return state.value.removeprefix("TASK_STATE_").lower().replace("_", " ")


def state_style(state: TaskState) -> str:
    """The colour of a state in lists."""
    return _STYLES.get(state, "blue")


def status_text(update: TaskStatusUpdateEvent) -> str:
    """The words of a status update; empty when it has none."""
    words = update.status.message
    return "" if isinstance(words, UnsetType) else text_of(words.parts) or ""


def artifact_text(update: TaskArtifactUpdateEvent) -> str:
    """An update's content as text."""
    return parts_text(update.artifact.parts)


def parts_text(parts: Iterable[Part]) -> str:
    """Text parts as they are, data as indented JSON, files by their name or address."""
    pieces = []
    for part in parts:
        if not isinstance(part.text, UnsetType):
            pieces.append(part.text)
        elif not isinstance(part.data, UnsetType):
            pieces.append(value_text(msgspec.json.decode(part.data)) + "\n")
        elif not isinstance(part.url, UnsetType):
            pieces.append(f"{part.url}\n")
        else:
            pieces.append(f"({part.filename or 'a file'}, {part.media_type or 'bytes'})\n")
    return "".join(pieces)


def value_text(value: Any) -> str:
    """A value as people read it: text as it is, anything else as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
