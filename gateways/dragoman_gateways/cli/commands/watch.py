"""``dragoman watch``: what happens on the bus, as it happens."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import bus_options, json_option, pass_settings
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("watch")
@json_option
@bus_options
@pass_settings
def command(settings: Settings) -> int:
    """Show live tasks, events and agents coming and going, until Ctrl-C.

    Each line: time, agent, the end of the task's or instance's id, what happened, details.
    With --json, each line is a whole message under its type, or a change of the registry.
    """
    from dragoman_gateways.cli.watching import watch

    return watch(settings)
