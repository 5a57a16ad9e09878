"""``dragoman run``: serve one agent."""

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


@click.command("run")
@click.argument("target", metavar="FILE.py:AGENT|MODULE:AGENT|NAME")
@click.option(
    "--replicas",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Serve it in N processes that share the work.",
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(min=1),
    help="Tasks that one process runs at once. Default: the agent's own.",
)
@click.option(
    "--lease",
    "lease_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=1, max=3600),
    help="How soon the registry forgets it after it died without a goodbye. Default: 10.",
)
@click.option(
    "--drain",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="How long it may finish its work when it is asked to end.",
)
@configuration_option
@bus_options
@json_option
@pass_settings
def command(
    settings: Settings,
    target: str,
    replicas: int,
    concurrency: int | None,
    lease_seconds: float | None,
    drain: float,
) -> int:
    """Serve one agent until Ctrl-C or SIGTERM.

    It then takes no new tasks, finishes what runs, says goodbye and ends with 0. NAME is an agent
    that dragoman.toml declares.

    \b
    dragoman run examples/echo.py:agent
    dragoman run mypackage.agents:summarizer --replicas 2
    """
    from dragoman_gateways.cli.running import Serving, serve_agent

    serving = Serving(
        target=target,
        concurrency=concurrency,
        lease_seconds=lease_seconds,
        drain_seconds=drain,
    )
    return serve_agent(serving, settings, replicas=replicas)
