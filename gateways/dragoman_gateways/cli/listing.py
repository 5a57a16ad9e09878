"""``dragoman ls``: who is on the bus, as a table or as JSON, once or as it changes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET
from rich.table import Table
from rich.text import Text

from dragoman_agents.ensembles.agents.members import ENSEMBLE_TAG
from dragoman_bus.client import Bus, connect
from dragoman_bus.protocol.payloads import InstanceState
from dragoman_bus.protocol.subjects import REGISTRY_BUCKET
from dragoman_bus.registry import Directory, prune
from dragoman_bus.registry.view import AgentView
from dragoman_gateways.cli.event_loop import first_of, run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import console, error_console, printable, write_json
from dragoman_gateways.cli.settings import Settings
from dragoman_gateways.cli.words import MODELS_OF_MEMBERS, NO_MODEL, plural, short_digest

__all__ = ["Selection", "agent_document", "agent_table", "list_agents"]

NOBODY = "No agent is on the bus. Start one with `dragoman run FILE.py:agent`, or `dragoman up`."

ROOM_FOR_CARDS = 100
"""Columns of a terminal on which digests are shown; on less, names need the room."""


@dataclass(kw_only=True)
class Selection:
    """Which agents to show; everything given must fit."""

    agent: str | None = None
    skill: str | None = None
    tags: tuple[str, ...] = field(default=())

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.agent is None and self.skill is None and not self.tags


def list_agents(selection: Selection, settings: Settings, *, watch: bool, prunes: bool) -> ExitCode:
    """Show the agents; see ``dragoman ls --help``."""
    return run(_list(selection, settings, watch, prunes))


async def _list(selection: Selection, settings: Settings, watch: bool, prunes: bool) -> ExitCode:
    with stop_on_signals() as stop:
        async with connect(settings.server_url(), name="cli") as bus:
            if prunes:
                await _prune(bus, settings)
            # A bus may have thousands of agents: who wants one reads one.
            directory = Directory(bus.transport, agent=selection.agent)
            await directory.start()
            try:
                if watch:
                    await first_of(stop, _follow(directory, selection, settings))
                else:
                    _show(_find(directory, selection), selection, settings)
            finally:
                await directory.stop()
    return ExitCode.OK


async def _prune(bus: Bus, settings: Settings) -> None:
    deleted = await prune(await bus.transport.key_value(REGISTRY_BUCKET))
    for key, reason in deleted.items():
        if settings.json:
            write_json({"event": "pruned", "key": key, "reason": reason})
        else:
            words = printable(f"· {key} is deleted: {reason}")
            error_console().print(words, style="dim", markup=False)


def _find(directory: Directory, selection: Selection) -> list[AgentView]:
    return directory.find(agent=selection.agent, skill=selection.skill, tags=selection.tags)


async def _follow(directory: Directory, selection: Selection, settings: Settings) -> None:
    changed = asyncio.Event()
    directory.add_listener(lambda _: changed.set())
    if settings.json or not console().is_terminal:
        while True:
            changed.clear()
            _show(_find(directory, selection), selection, settings)
            await changed.wait()
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, screen=False) as live:
        while True:
            changed.clear()
            views = _find(directory, selection)
            table = agent_table(views, width=console().width)
            live.update(table if views else Text(NOBODY, style="dim"), refresh=True)
            await changed.wait()


def _show(views: list[AgentView], selection: Selection, settings: Settings) -> None:
    if settings.json:
        write_json({"agents": [agent_document(view) for view in views]})
    elif views:
        console().print(agent_table(views, width=console().width))
    else:
        text = NOBODY if selection.is_all else "No agent on the bus fits."
        error_console().print(text, style="dim", markup=False)


def agent_table(views: list[AgentView], *, width: int) -> Table:
    """The agents as people read them, on ``width`` columns.

    Names are copied, so they are never cut: long ones go on in the next line.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    headings = ["AGENT", "INSTANCES", "SKILLS", "STATE", "LOAD", "MODELS", "CARD"]
    if width < ROOM_FOR_CARDS:
        headings.remove("CARD")
    for heading in headings:
        table.add_column(
            heading, justify="right" if heading == "INSTANCES" else "left", overflow="fold"
        )
    for view in views:
        ready, state = view.is_ready, "ready" if view.is_ready else "draining"
        draining = sum(lease.state is InstanceState.DRAINING for lease in view.instances)
        if ready and draining:
            state = f"ready, {draining} draining"
        row: list[Text | str] = [
            Text(printable(view.name), style="bold"),
            str(len(view.instances)),
            Text(printable(", ".join(view.skills))),
            Text(state, style="green" if ready else "yellow"),
            _load(view),
            Text(printable(_models(view)), style="dim"),
            Text(short_digest(view.digest), style="dim"),
        ]
        table.add_row(*row[: len(headings)])
    return table


def agent_document(view: AgentView) -> dict[str, Any]:
    """An agent for programs; instances are the data of their leases."""
    skills = []
    for skill in view.announce.card.skills:
        contract = view.contract(skill.id)
        document: dict[str, Any] = {
            "id": skill.id,
            "description": skill.description,
            "tags": skill.tags,
        }
        if contract is not None:
            document["contract"] = contract.digest
        skills.append(document)
    return {
        "agent": view.name,
        "description": view.announce.card.description,
        "version": view.announce.card.version,
        "card": view.digest,
        "state": "ready" if view.is_ready else "draining",
        "skills": skills,
        "models": [] if view.announce.models is UNSET else view.announce.models,
        "instances": view.instances,
    }


def _models(view: AgentView) -> str:
    """What it says of its models; an ensemble has none of its own, and uses those of others."""
    own = ", ".join(view.model_names())
    if own:
        return own
    return MODELS_OF_MEMBERS if view.offers(tags=[ENSEMBLE_TAG]) else NO_MODEL


def _load(view: AgentView) -> str:
    running = sum(lease.running for lease in view.instances)
    slots = sum(lease.slots for lease in view.instances)
    queued = sum(lease.queued for lease in view.instances)
    waiting = f", {plural(queued, 'task')} waiting" if queued else ""
    return f"{running} of {slots}{waiting}"
