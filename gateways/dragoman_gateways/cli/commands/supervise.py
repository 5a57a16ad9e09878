"""``dragoman supervise``: what durable tasks need beside workers."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import (
    bus_options,
    configuration_option,
    json_option,
    pass_settings,
)
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("supervise")
@configuration_option
@bus_options
@json_option
@pass_settings
def command(settings: Settings) -> int:
    """Supervise durable tasks until Ctrl-C or SIGTERM.

    Makes the streams and queues with the limits of [durable] in dragoman.toml, ends tasks at their
    deadline and canceled ones, and those whose workers died. `dragoman up` does so too. Several
    may run, on any host: one acts, and another one takes over when it ends.
    """
    from dragoman_gateways.cli.durability import supervise

    return supervise(settings)
