"""``dragoman ls``: the agents on the bus."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import bus_options, json_option, pass_settings
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("ls")
@click.argument("agent", required=False)
@click.option("--skill", metavar="NAME", help="Only agents with this skill.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only skills so tagged.")
@click.option("--watch", is_flag=True, help="Show every change until Ctrl-C.")
@json_option
@bus_options
@pass_settings
def command(
    settings: Settings, agent: str | None, skill: str | None, tags: tuple[str, ...], watch: bool
) -> int:
    """List the agents on the bus: their instances, skills, load and models.

    LOAD is running tasks of all slots. CARD begins the digest of what the agent announces; two
    rows of one agent are two versions of it.
    """
    from dragoman_gateways.cli.listing import Selection, list_agents

    return list_agents(Selection(agent=agent, skill=skill, tags=tags), settings, watch=watch)
