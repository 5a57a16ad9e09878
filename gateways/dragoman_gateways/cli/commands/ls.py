"""``dragoman ls``: the agents on the bus."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import bus_options, json_option, pass_settings, token
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("ls")
@click.argument("agent", required=False, callback=token)
@click.option("--skill", metavar="NAME", help="Only agents with this skill.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only skills so tagged.")
@click.option("--watch", is_flag=True, help="Show every change until Ctrl-C.")
@click.option("--prune", is_flag=True, help="First delete what no reader of the registry can use.")
@json_option
@bus_options
@pass_settings
def command(
    settings: Settings,
    agent: str | None,
    skill: str | None,
    tags: tuple[str, ...],
    watch: bool,
    prune: bool,
) -> int:
    """List the agents on the bus: their instances, skills, load and models.

    LOAD is running tasks of all slots. CARD begins the digest of what the agent announces; two
    rows of one agent are two versions of it.

    --prune deletes entries of the registry that are no valid messages, or stand where they do not
    belong. Agents, and entries of later versions of the protocol, are left alone.
    """
    from dragoman_gateways.cli.listing import Selection, list_agents

    selection = Selection(agent=agent, skill=skill, tags=tags)
    return list_agents(selection, settings, watch=watch, prunes=prune)
