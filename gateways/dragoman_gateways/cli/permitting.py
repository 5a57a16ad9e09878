"""``dragoman permissions``: an agent's card, from the bus or its file, made into permissions."""

from __future__ import annotations

import click

from dragoman_agents import load_agent
from dragoman_bus.client import connect
from dragoman_bus.permissions import agent_permissions, inbox_prefix
from dragoman_bus.protocol.errors import AgentUnavailable
from dragoman_bus.protocol.payloads import AnnounceData
from dragoman_gateways.cli.event_loop import run
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import write_json
from dragoman_gateways.cli.settings import Settings

__all__ = ["show_permissions"]


def show_permissions(agent: str, settings: Settings, *, delegates: bool) -> ExitCode:
    """Write the permissions; see ``dragoman permissions --help``."""
    if ":" in agent:
        announce = load_agent(agent).announcement()
    else:
        announce = run(_announced(agent, settings))
    permissions = agent_permissions(announce, delegates=delegates)
    if settings.json:
        document = {"publish": permissions.publish, "subscribe": permissions.subscribe}
        write_json({"agent": announce.agent, "inbox": inbox_prefix(announce.agent), **document})
    else:
        click.echo(permissions.as_configuration(announce.agent), nl=False)
    return ExitCode.OK


async def _announced(agent: str, settings: Settings) -> AnnounceData:
    async with connect(settings.server_url(), name="cli") as bus:
        views = await bus.discover(agent=agent)
    if not views:
        raise AgentUnavailable(f"no agent {agent!r} is on the bus; FILE.py:agent needs none")
    return views[-1].announce
