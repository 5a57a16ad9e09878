"""``dragoman run``: one agent served by this process, or by several that this one supervises."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from dragoman_agents import Agent, load_agent, serving
from dragoman_agents.serving import StoppedEarly
from dragoman_bus.protocol.errors import DragomanError, NotConfigured
from dragoman_bus.service import Instance
from dragoman_bus.transports.nats import connect_nats
from dragoman_gateways.cli.event_loop import run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.lifeline import hold_lifeline
from dragoman_gateways.cli.lines import StatusLines
from dragoman_gateways.cli.output import error_console, printable, write_json
from dragoman_gateways.cli.processes import dragoman_command
from dragoman_gateways.cli.settings import SERVER_VARIABLE, Settings
from dragoman_gateways.cli.supervising import Program, RestartPolicy, Supervisor

__all__ = ["Serving", "find_agent", "serve_agent"]

DEFAULT_LEASE_SECONDS = 10.0


@dataclass(kw_only=True)
class Serving:
    """What is served, and how; ``None`` leaves it to the agent."""

    target: str
    concurrency: int | None = None
    lease_seconds: float | None = None
    drain_seconds: float = 30.0

    def options(self) -> list[str]:
        """The same as options of ``dragoman run``."""
        given = {
            "--concurrency": self.concurrency,
            "--lease": self.lease_seconds,
            "--drain": self.drain_seconds,
        }
        return [
            word
            for name, value in given.items()
            if value is not None
            for word in (name, str(value))
        ]


def serve_agent(what: Serving, settings: Settings, *, replicas: int) -> ExitCode:
    """Serve until a signal, or until an operator drains it; see ``dragoman run --help``.

    Raises:
        NotConfigured: the agent does not load.
        BusUnavailable: no server answers, or it lacks JetStream.
    """
    if replicas > 1:
        return run(_replicas(what, settings, replicas))
    hold_lifeline()
    return run(_serve(what, find_agent(what.target, settings), settings))


def find_agent(target: str, settings: Settings) -> Agent:
    """The agent of a module or file, or one that the configuration file declares.

    Raises:
        NotConfigured: there is none, or its module fails.
    """
    is_module = ":" in target or "." in target
    if not is_module:
        return _declared(target, settings)
    try:
        return load_agent(target)
    except DragomanError:
        raise
    except Exception as error:
        raise NotConfigured(f"{target} does not load: {type(error).__name__}: {error}") from error


def _declared(name: str, settings: Settings) -> Agent:
    from dragoman_agents.declared import declared_agent

    agents = settings.load().agents
    for declaration in agents:
        if declaration.name == name:
            return declared_agent(declaration)
    names = ", ".join(agent.name for agent in agents if agent.name) or "none"
    raise NotConfigured(
        f"no agent named {name!r} is declared in the configuration (it declares: {names}); for an "
        "agent in a module, write FILE.py:NAME or MODULE:NAME"
    )


async def _serve(what: Serving, agent: Agent, settings: Settings) -> ExitCode:
    if what.concurrency is not None:
        agent.concurrency = what.concurrency
    with stop_on_signals() as stop:
        transport = await connect_nats(settings.server_url(), name=agent.name)
        try:
            async with serving(
                agent,
                transport,
                lease_seconds=what.lease_seconds or DEFAULT_LEASE_SECONDS,
                grace_seconds=what.drain_seconds,
                stop=stop,
            ) as instance:
                _say_ready(agent, instance, settings)
                await _until_stopped(stop, instance)
                if not settings.json:
                    error_console().print("draining; Ctrl-C again leaves at once", style="dim")
        except StoppedEarly:
            return ExitCode.OK
        finally:
            await transport.close()
    return ExitCode.OK


async def _until_stopped(stop: asyncio.Event, instance: Instance) -> None:
    waits = [
        asyncio.ensure_future(stop.wait()),
        asyncio.ensure_future(instance.drain_requested.wait()),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _say_ready(agent: Agent, instance: Instance, settings: Settings) -> None:
    if settings.json:
        # The supervisor of this process reads this line (processes.py).
        write_json(
            {
                "event": "ready",
                "agent": agent.name,
                "instance": instance.id,
                "pid": os.getpid(),
                "skills": list(agent.skills),
            }
        )
        return
    skills = printable(", ".join(agent.skills))
    error_console().print(
        f"[green]●[/] [bold]{agent.name}[/] is on the bus as {instance.id} (pid {os.getpid()})"
    )
    error_console().print(f"  skills: {skills}. Ctrl-C drains and ends.", style="dim")


async def _replicas(what: Serving, settings: Settings, replicas: int) -> ExitCode:
    file = settings.file()
    url = settings.server_url()
    options = [
        *(["--config", str(file)] if file else []),
        *(["--debug"] if settings.debug else []),
    ]
    command = dragoman_command(*options, "run", what.target, "--json", *what.options())
    programs = [
        Program(label=f"{what.target}-{number}", command=command)
        for number in range(1, replicas + 1)
    ]
    lines = StatusLines(as_json=settings.json)
    with stop_on_signals() as stop:
        # The children's own drain ends them before this one runs out.
        policy = RestartPolicy(drain_seconds=what.drain_seconds + 5)
        # Not as an argument, which whoever lists processes sees: it may hold a password.
        environment = os.environ | ({SERVER_VARIABLE: url} if url else {})
        await Supervisor(programs, environment, lines.process, policy).run(stop)
        return ExitCode.OK if stop.is_set() else ExitCode.USAGE
