"""``dragoman watch``: tasks and agents as they come, move and go."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from msgspec import UNSET, UnsetType
from rich.text import Text

from dragoman_bus.client import Bus, connect
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.contracts import text_of
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import (
    BusEvent,
    ErrorMessage,
    TaskArtifact,
    TaskFinal,
    TaskStatusUpdate,
    type_of,
)
from dragoman_bus.protocol.subjects import PREFIX
from dragoman_bus.registry.directory import DirectoryChange
from dragoman_bus.transports.port import Delivery
from dragoman_gateways.cli.event_loop import first_of, run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import console, error_console, printable, write_json
from dragoman_gateways.cli.presenting import state_word
from dragoman_gateways.cli.settings import Settings
from dragoman_gateways.cli.tap import REPLY_SUBJECTS, tap
from dragoman_gateways.cli.words import duration, model_name, short_instance, usage_words

__all__ = ["Watcher", "watch"]

EVENT_SUBJECTS = f"{PREFIX}.bus.>"
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
    async with tap(bus.transport, (REPLY_SUBJECTS, EVENT_SUBJECTS)) as deliveries:
        async for delivery in deliveries:
            watcher.message(delivery)
            await asyncio.sleep(0)


class Watcher:
    """Turns messages and registry changes into lines: text for people, JSON for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._seen: dict[str, tuple[str, float, int]] = {}

    def agent(self, change: DirectoryChange) -> None:
        """An instance joined, changed its state, left or was lost."""
        lease = change.lease
        if self._as_json:
            write_json({"event": f"agent.{change.kind}", "lease": lease})
            return
        if change.kind == "changed" and self._seen.get(lease.instance, ("",))[0] == str(
            lease.state
        ):
            return
        self._seen[lease.instance] = (str(lease.state), 0.0, 0)
        words = lease.state.value if change.kind == "changed" else change.kind
        style = {"joined": "green", "lost": "red", "left": "yellow"}.get(change.kind, "yellow")
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
            error_object = message.data.error
            task = "" if isinstance(message.data.task_id, UnsetType) else message.data.task_id
            self._line(
                _agent_of(message.source), task[-8:], error_object.code, "red", error_object.message
            )
        elif isinstance(message, BusEvent):
            data = message.data
            self._line(
                _agent_of(message.source),
                data.topic,
                data.event,
                "cyan",
                bytes(data.payload).decode(errors="replace"),
            )

    def _status(self, message: TaskStatusUpdate) -> None:
        update = message.data.status_update
        words = update.status.message
        text = "" if isinstance(words, UnsetType) else text_of(words.parts) or ""
        state = state_word(update.status.state)
        known, started, chunks = self._seen.get(update.task_id, ("", time.monotonic(), 0))
        # A keep-alive repeats the state.
        if known != state + text:
            self._remember(update.task_id, (state + text, started, chunks))
            self._line(_agent_of(message.source), update.task_id[-8:], state, "blue", text)

    def _artifact(self, message: TaskArtifact) -> None:
        task_id = message.data.artifact_update.task_id
        known, started, chunks = self._seen.get(task_id, ("", time.monotonic(), 0))
        if chunks == 0:
            self._line(_agent_of(message.source), task_id[-8:], "streaming", "blue", "")
        self._remember(task_id, (known, started, chunks + 1))

    def _final(self, message: TaskFinal) -> None:
        data = message.data
        task_id = data.status_update.task_id
        _, _, chunks = self._seen.pop(task_id, ("", 0.0, 0))
        receipt = data.receipt
        facts = []
        if not isinstance(receipt, UnsetType):
            facts.append(receipt.skill)
            if not isinstance(receipt.run_milliseconds, UnsetType):
                facts.append(duration(receipt.run_milliseconds / 1000))
            facts.append(model_name(receipt.model))
        facts += [f"{chunks} chunks"] if chunks else []
        facts += [usage_words(None if data.usage is UNSET else data.usage or None)]
        if not isinstance(data.error, UnsetType):
            facts.append(f"{data.error.code}: {data.error.message}")
        state = state_word(data.status_update.status.state)
        style = "green" if state == "completed" else "red"
        self._line(
            _agent_of(message.source),
            task_id[-8:],
            state,
            style,
            " · ".join(fact for fact in facts if fact),
        )

    def _remember(self, key: str, value: tuple[str, float, int]) -> None:
        self._seen[key] = value
        while len(self._seen) > REMEMBERED_TASKS:
            self._seen.pop(next(iter(self._seen)))

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


def _agent_of(source: str) -> str:
    """``counter`` of ``/agents/counter/01h…``."""
    parts = source.split("/")
    return parts[2] if len(parts) > 2 else source
