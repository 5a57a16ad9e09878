"""``dragoman up``: the bus and all agents of one configuration file, kept running until a stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from dragoman_agents.configuration import Configuration
from dragoman_agents.models.providers import key_place, key_variables
from dragoman_bus.client import Bus, connect
from dragoman_bus.protocol.errors import DragomanError, NotConfigured
from dragoman_bus.registry.directory import DirectoryChange
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import redact_url, server_urls
from dragoman_gateways.cli.durability import check_replicas, supervised
from dragoman_gateways.cli.event_loop import run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.lines import StatusLines
from dragoman_gateways.cli.processes import dragoman_command
from dragoman_gateways.cli.settings import SERVER_VARIABLE, Settings
from dragoman_gateways.cli.supervising import Program, RestartPolicy, Supervisor
from dragoman_gateways.cli.words import plural, short_instance

__all__ = ["programs_for", "up"]

DATA_DIRECTORY = ".dragoman"
SERVER_CHECK_SECONDS = 0.5


def up(settings: Settings, *, port: int | None, data_directory: Path | None, drain: float) -> int:
    """Start everything and keep it running; see ``dragoman up --help``.

    Raises:
        NotConfigured: there is no configuration, or no agent in it.
        BusUnavailable: the server does not start, or does not answer.
    """
    file = settings.file()
    if file is None:
        raise NotConfigured(
            "there is no dragoman.toml here; `dragoman init` writes one, --config names another"
        )
    configuration = settings.load(
        port=port, data_directory=str(data_directory) if data_directory else None
    )
    if not configuration.agents:
        raise NotConfigured(f"{file} has no [[agents]]; add one, or serve one with `dragoman run`")
    if configuration.bus.starts_server:
        check_replicas(configuration.durable)
    elif port is not None or data_directory is not None:
        raise NotConfigured(
            f"--port and --data-directory are of a server that is started, and "
            f"{redact_url(configuration.bus.url)} runs elsewhere; leave them out, or take the "
            "server away from --server, NATS_URL, DRAGOMAN_SERVER or [bus]"
        )
    return run(_up(settings, file, configuration, drain))


async def _up(
    settings: Settings, file: Path, configuration: Configuration, drain: float
) -> ExitCode:
    lines = StatusLines(as_json=settings.json)
    with stop_on_signals() as stop:
        async with (
            _server(configuration, lines, stop) as url,
            connect(url, name="up") as bus,
            _supervisor(bus, configuration, lines),
        ):
            programs = programs_for(configuration, file)
            supervisor = Supervisor(
                programs,
                # Whoever lists processes sees their arguments, and an address may hold a password.
                os.environ | {SERVER_VARIABLE: url},
                lines.process,
                RestartPolicy(drain_seconds=drain),
            )
            remove = await _follow_registry(bus, lines)
            lines.say("agents", f"starting {plural(len(programs), 'process', 'processes')}")
            try:
                await supervisor.run(stop)
            finally:
                remove()
            stopped = stop.is_set()
    if stopped:
        lines.say("up", "all agents have left the bus; ended")
        return ExitCode.OK
    lines.say("up", "no agent could be started", failed=True)
    return ExitCode.USAGE


def programs_for(configuration: Configuration, file: Path) -> list[Program]:
    """One program per replica of every agent; a replica's label ends with its number.

    An agent without code sees the key of its own model and no other; what an agent's code needs
    is not known, so it sees all.
    """
    programs = []
    declared = [agent.model for agent in configuration.agents if agent.model is not None]
    keys = key_variables([*configuration.models.values(), *declared])
    for agent in configuration.agents:
        target = agent.module or agent.name or ""
        options = [] if agent.concurrency is None else ["--concurrency", str(agent.concurrency)]
        command = dragoman_command("--config", str(file), "run", target, "--json", *options)
        name = agent.name or Path(target.partition(":")[0]).stem
        own = None if agent.model is None else key_place(agent.model)[0]
        hidden = keys - {own} if agent.module is None else frozenset()
        for number in range(1, agent.replicas + 1):
            label = name if agent.replicas == 1 else f"{name}-{number}"
            programs.append(Program(label=label, command=command, hidden=hidden))
    return programs


def _supervisor(
    bus: Bus, configuration: Configuration, lines: StatusLines
) -> contextlib.AbstractAsyncContextManager[Any]:
    """What durable tasks need beside agents, unless it runs elsewhere."""
    table = configuration.durable
    if not table.supervise:
        return contextlib.nullcontext()
    return supervised(bus.transport, table, lines)


@contextlib.asynccontextmanager
async def _server(
    configuration: Configuration, lines: StatusLines, stop: asyncio.Event
) -> AsyncIterator[str]:
    """The address of the bus; a server of our own is started, watched and stopped."""
    bus = configuration.bus
    if not bus.starts_server:
        shown = ",".join(map(redact_url, server_urls(bus.url)))
        lines.say("bus", f"{shown} (runs elsewhere)", url=shown)
        yield bus.url
        return
    server = NatsServer(
        bus.data_directory or DATA_DIRECTORY,
        port=bus.port,
        sync_interval=bus.sync_interval_seconds,
    )
    await server.start_async()
    watching = asyncio.create_task(_watch_server(server, lines))
    try:
        lines.say(
            "bus",
            f"{server.url} (pid {server.process_id}, data in {server.data_directory})",
            url=server.url,
            pid=server.process_id,
        )
        yield server.url
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await asyncio.to_thread(server.stop)


async def _watch_server(server: NatsServer, lines: StatusLines) -> None:
    """Start the server again when it died; agents reconnect by themselves."""
    policy, failures = RestartPolicy(), 0
    while True:
        await asyncio.sleep(SERVER_CHECK_SECONDS)
        if server.running:
            continue
        failures += 1
        delay = policy.delay(failures)
        lines.say("bus", f"ended; starting it again in {delay:.1f} s", failed=True)
        await asyncio.sleep(delay)
        try:
            await server.start_async()
        except DragomanError as error:
            lines.say("bus", error.message, failed=True)
        else:
            lines.say("bus", f"{server.url} (pid {server.process_id})", pid=server.process_id)


async def _follow_registry(bus: Bus, lines: StatusLines) -> Any:
    """Say what the registry sees of agents: it knows even those that do not run here."""
    directory = await bus.directory()

    def on_change(change: DirectoryChange) -> None:
        if change.kind == "changed":
            return
        lease = change.lease
        words = {"joined": "on the bus", "left": "left the bus", "lost": "lost: its lease ran out"}
        views = directory.find(agent=lease.agent)
        skills = ", ".join(views[0].skills) if views and change.kind == "joined" else ""
        lines.say(
            lease.agent,
            f"{words[change.kind]} ({short_instance(lease.instance)})"
            + (f": {skills}" if skills else ""),
            failed=change.kind == "lost",
            instance=lease.instance,
        )

    return directory.add_listener(on_change)
