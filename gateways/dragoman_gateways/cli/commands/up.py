"""``dragoman up``: the bus and every agent of one file."""

from __future__ import annotations

from pathlib import Path

import click

from dragoman_gateways.cli.options import (
    bus_options,
    configuration_option,
    json_option,
    pass_settings,
)
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("up")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the server that is started; 0 is a free one. Default: 4222, or the file's.",
)
@click.option(
    "--data-directory",
    metavar="DIRECTORY",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where that server keeps its data. Default: .dragoman, or the file's.",
)
@click.option(
    "--drain",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="How long agents may finish their work when everything stops.",
)
@configuration_option
@bus_options
@json_option
@pass_settings
def command(settings: Settings, port: int | None, data_directory: Path | None, drain: float) -> int:
    """Start a NATS server and every agent of dragoman.toml, each in its own process.

    A process that ends is started again, later each time. Ctrl-C or SIGTERM drains all agents:
    they finish what runs, say goodbye, and the server stops. With --server (or a server in the
    file) no server is started. Durable tasks are supervised, as by `dragoman supervise`.
    """
    from dragoman_gateways.cli.starting import up

    return up(settings, port=port, data_directory=data_directory, drain=drain)
