"""``dragoman watch``: tasks and agents as they come, move and go."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType
from rich.text import Text

from dragoman_bus.client import Bus, connect
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import (
    BusEvent,
    ErrorMessage,
    TaskArtifact,
    TaskCancel,
    TaskChild,
    TaskFinal,
    TaskReply,
    TaskStatusUpdate,
    TaskStep,
    TaskSubmit,
    type_of,
)
from dragoman_bus.protocol.payloads import FinalData, InstanceState
from dragoman_bus.protocol.subjects import PREFIX
from dragoman_bus.registry.directory import DirectoryChange
from dragoman_bus.transports.port import Delivery
from dragoman_gateways.cli.event_loop import first_of, run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import console, error_console, printable, write_json
from dragoman_gateways.cli.presenting import state_word, status_text
from dragoman_gateways.cli.settings import Settings
from dragoman_gateways.cli.tap import LIVE_SUBJECTS, REPLY_SUBJECTS, tap
from dragoman_gateways.cli.words import duration, model_name, plural, short_instance, usage_words

__all__ = ["Watcher", "watch"]

EVENT_SUBJECTS = f"{PREFIX}.bus.>"
PULLED_SUBJECTS = tuple(f"{PREFIX}.{kind}." for kind in ("task", "evt", "turn", "due"))
REMEMBERED_TASKS = 4096


def watch(settings: Settings) -> ExitCode:
    """Show what happens until Ctrl-C; see ``dragoman watch --help``."""
    return run(_watch(settings))


async def _watch(settings: Settings) -> ExitCode:
    with stop_on_signals() as stop:
        async with connect(settings.server_url(), name="cli") as bus:
            await first_of(stop, _follow(bus, settings))
    return ExitCode.OK


async def _follow(bus: Bus, settings: Settings) -> None:
    watcher = Watcher(as_json=settings.json)
    directory = await bus.directory()
    for view in directory.agents():
        for lease in view.instances:
            watcher.agent(DirectoryChange(kind="joined", lease=lease))
    directory.add_listener(watcher.agent)
    if not settings.json:
        error_console().print("Watching; Ctrl-C ends it.", style="dim")
    async with tap(bus.transport, (REPLY_SUBJECTS, EVENT_SUBJECTS, LIVE_SUBJECTS)) as deliveries:
        async for delivery in deliveries:
            # A queue's message keeps its subject in the inbox of whoever pulled it.
            if not delivery.subject.startswith(PULLED_SUBJECTS):
                watcher.message(delivery)
            watcher.missed(deliveries.missed)
            await asyncio.sleep(0)


@dataclass
class _Progress:
    """What was told of a task: its last state with its words, and how much it streamed."""

    told: str = ""
    chunks: int = 0


class Watcher:
    """Turns messages and registry changes into lines: text for people, JSON for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._states: dict[str, InstanceState] = {}
        self._tasks: OrderedDict[str, _Progress] = OrderedDict()
        self._missed = 0

    def agent(self, change: DirectoryChange) -> None:
        """An instance joined, changed its state, left or was lost."""
        lease = change.lease
        if self._as_json:
            write_json({"event": f"agent.{change.kind}", "lease": lease})
            return
        before = self._states.pop(lease.instance, None)
        if change.kind in ("joined", "changed"):
            self._states[lease.instance] = lease.state
        # Most changes are those of the load.
        if change.kind == "changed" and before is lease.state:
            return
        words = lease.state.value if change.kind == "changed" else change.kind
        style = {"joined": "green", "lost": "red"}.get(change.kind, "yellow")
        self._line(lease.agent, short_instance(lease.instance), words, style, "")

    def message(self, delivery: Delivery) -> None:
        """A message that passed; one that is not valid is told and left to ``validate``."""
        try:
            message = decode(delivery.data)
        except ProtocolError as error:
            self._emit({"event": "invalid", "subject": delivery.subject, "message": str(error)})
            self._line("", "", "invalid message", "red", f"on {delivery.subject}: {error.message}")
            return
        if self._as_json:
            write_json({"event": type_of(message), "subject": delivery.subject, "message": message})
        elif isinstance(message, TaskStatusUpdate):
            self._status(message)
        elif isinstance(message, TaskArtifact):
            self._artifact(message)
        elif isinstance(message, TaskFinal):
            self._final(message)
        elif isinstance(message, ErrorMessage):
            self._error(message)
        elif isinstance(message, BusEvent):
            self._event(message)
        elif isinstance(message, TaskSubmit | TaskStep | TaskChild | TaskCancel | TaskReply):
            self._noted(message)

    def missed(self, count: int) -> None:
        """So many messages in all came too fast to be shown; told as often as they double."""
        if count and count >= 2 * self._missed:
            self._missed = count
            self._emit({"event": "missed", "messages": count})
            self._line("", "", "missed", "red", f"{count:,} messages came too fast to be shown")

    def _status(self, message: TaskStatusUpdate) -> None:
        update = message.data.status_update
        text, state = status_text(update), state_word(update.status.state)
        progress = self._progress(update.task_id)
        # A keep-alive repeats the state.
        if progress.told != state + text:
            progress.told = state + text
            self._line(_agent_of(message.source), update.task_id[-8:], state, "blue", text)

    def _artifact(self, message: TaskArtifact) -> None:
        task_id = message.data.artifact_update.task_id
        progress = self._progress(task_id)
        if progress.chunks == 0:
            self._line(_agent_of(message.source), task_id[-8:], "streaming", "blue", "")
        progress.chunks += 1

    def _final(self, message: TaskFinal) -> None:
        status = message.data.status_update
        chunks = self._progress(status.task_id).chunks
        del self._tasks[status.task_id]
        facts = _facts(message.data)
        if chunks:
            facts.append(plural(chunks, "piece"))
        state = state_word(status.status.state)
        style = "green" if status.status.state is TaskState.COMPLETED else "red"
        detail = " · ".join(facts)
        self._line(_agent_of(message.source), status.task_id[-8:], state, style, detail)

    def _error(self, message: ErrorMessage) -> None:
        data = message.data
        task = "" if isinstance(data.task_id, UnsetType) else data.task_id
        agent, code = _agent_of(message.source), data.error.code
        self._line(agent, task[-8:], code, "red", data.error.message)

    def _event(self, message: BusEvent) -> None:
        data = message.data
        payload = bytes(data.payload).decode(errors="replace")
        self._line(_agent_of(message.source), data.topic, data.event, "cyan", payload)

    def _noted(self, message: TaskSubmit | TaskStep | TaskChild | TaskCancel | TaskReply) -> None:
        """An entry of a durable task's log that is no answer."""
        match message:
            case TaskSubmit(data=data):
                words, detail = "submitted", f"{data.skill}, durable"
            case TaskStep(data=data):
                words, detail = "step done", data.name
            case TaskChild(data=data):
                words, detail = "delegated", f"{data.skill} as {data.child_task_id[-8:]}"
            case TaskCancel(data=data):
                words, detail = "to cancel", "" if data.reason is UNSET else data.reason
            case TaskReply(data=data):
                words, detail = "answered", ""
        self._line(_agent_of(message.source), data.task_id[-8:], words, "blue", detail)

    def _progress(self, task_id: str) -> _Progress:
        progress = self._tasks.setdefault(task_id, _Progress())
        while len(self._tasks) > REMEMBERED_TASKS:
            self._tasks.popitem(last=False)
        return progress

    def _emit(self, document: dict[str, Any]) -> None:
        if self._as_json:
            write_json(document)

    def _line(self, agent: str, name: str, state: str, style: str, detail: str) -> None:
        if self._as_json:
            return
        line = Text(time.strftime("%H:%M:%S "), style="dim")
        line.append(f"{printable(agent):<14} ", style="bold not dim")
        line.append(f"{printable(name):<10} ", style="dim")
        line.append(f"{printable(state):<12} ", style=f"{style} not dim")
        line.append(printable(detail), style="not dim")
        console().print(line, soft_wrap=True)


def _facts(data: FinalData) -> list[str]:
    """Skill, time, model, usage and error of an ended task, as far as they are told."""
    facts = []
    if not isinstance(data.receipt, UnsetType):
        facts.append(data.receipt.skill)
        if not isinstance(data.receipt.run_milliseconds, UnsetType):
            facts.append(duration(data.receipt.run_milliseconds / 1000))
        facts.append(model_name(data.receipt.model))
    if not isinstance(data.usage, UnsetType):
        facts.append(usage_words(data.usage))
    if not isinstance(data.error, UnsetType):
        facts.append(f"{data.error.code}: {data.error.message}")
    return [fact for fact in facts if fact]


def _agent_of(source: str) -> str:
    """``counter`` of ``/agents/counter/01h…``."""
    parts = source.split("/")
    return parts[2] if len(parts) > 2 else source
