"""How an answer appears while it arrives: as text for people, as JSON lines for programs."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from dragoman_bus.client.result import Result
from dragoman_bus.client.stream import Update
from dragoman_bus.client.task import TaskHandle
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent
from dragoman_bus.protocol.contracts import OUTPUT_ARTIFACT, text_of
from dragoman_gateways.cli.output import error_console, printable, write_json, write_text
from dragoman_gateways.cli.words import duration, model_name, short_instance, usage_words, who

__all__ = [
    "JsonPresenter",
    "Presenter",
    "TextPresenter",
    "artifact_text",
    "state_word",
    "status_text",
    "value_text",
]


class Presenter(Protocol):
    """Shows one task."""

    def submitted(self, task: TaskHandle, target: str) -> None:
        """The task was published."""

    def update(self, task: TaskHandle, update: Update) -> None:
        """An update arrived."""

    def finished(self, result: Result, seconds: float) -> None:
        """The task completed ``seconds`` after it was published."""

    def canceled(self, task: TaskHandle) -> None:
        """The task ended after Ctrl-C, in the state it has now."""

    def note(self, text: str) -> None:
        """Something about the task that is no update."""


class JsonPresenter:
    """JSON lines: ``submitted``, ``status``, ``artifact``, ``result``; errors come elsewhere."""

    def submitted(self, task: TaskHandle, target: str) -> None:
        """The first line: the task's id."""
        write_json({"event": "submitted", "taskId": task.task_id, "target": target})

    def update(self, task: TaskHandle, update: Update) -> None:
        """An A2A update, whole, under its A2A name."""
        if isinstance(update, TaskArtifactUpdateEvent):
            write_json({"event": "artifact", "artifactUpdate": update})
        else:
            write_json({"event": "status", "statusUpdate": update})

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

    def canceled(self, task: TaskHandle) -> None:
        """The last line after Ctrl-C: the state in which the task ended."""
        write_json({"event": "canceled", "taskId": task.task_id, "state": task.state.value})

    def note(self, text: str) -> None:
        """Nothing: notes are for people."""


class TextPresenter:
    """The answer on standard output as it comes; progress and the receipt on standard error."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._at_line_start = True
        self._last_status = ""

    def submitted(self, task: TaskHandle, target: str) -> None:
        """Say what is waited for, on a terminal only."""
        if sys.stderr.isatty():
            self.note(f"{target}: task {task.task_id}")

    def update(self, task: TaskHandle, update: Update) -> None:
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

    def canceled(self, task: TaskHandle) -> None:
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

    def _status(self, task: TaskHandle, update: TaskStatusUpdateEvent) -> None:
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


def state_word(state: TaskState) -> str:
    """``working`` for ``TASK_STATE_WORKING``."""
    return state.value.removeprefix("TASK_STATE_").lower().replace("_", " ")


def status_text(update: TaskStatusUpdateEvent) -> str:
    """The words of a status update; empty when it has none."""
    words = update.status.message
    return "" if isinstance(words, UnsetType) else text_of(words.parts) or ""


def artifact_text(update: TaskArtifactUpdateEvent) -> str:
    """An update's content as text: text parts as they are, data as indented JSON."""
    pieces = []
    for part in update.artifact.parts:
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
