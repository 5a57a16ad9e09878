"""``dragoman permissions``: what an agent may do on a server with authorization."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import bus_options, json_option, pass_settings
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("permissions")
@click.argument("agent")
@click.option("--delegates", is_flag=True, help="It also gives work to other agents.")
@json_option
@bus_options
@pass_settings
def command(settings: Settings, agent: str, delegates: bool) -> int:
    """Write the NATS permissions that an agent needs, made from its card, and no more.

    AGENT is one on the bus, or FILE.py:agent. What is written is a user of the `authorization` or
    `accounts` block of a nats-server; it is for the agent alone, so callers need their own.
    """
    from dragoman_gateways.cli.permitting import show_permissions

    return show_permissions(agent, settings, delegates=delegates)
