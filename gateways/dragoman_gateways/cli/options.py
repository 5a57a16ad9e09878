"""Options that several commands share, so that they look and behave the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dragoman_gateways.cli.settings import Settings

__all__ = ["bus_options", "configuration_option", "json_option", "pass_settings"]

Function = TypeVar("Function", bound=Callable[..., Any])

pass_settings = click.make_pass_decorator(Settings, ensure=True)


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that stores the value in the settings, when one was given."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(ctx.ensure_object(Settings), name, value)

    return callback


def json_option(function: Function) -> Function:
    """``--json``: standard output is for programs."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_store("json"),
        help="Write JSON only, one object per line.",
    )(function)


def bus_options(function: Function) -> Function:
    """``--server`` after the command's name too, where most people type it."""
    return click.option(
        "--server",
        metavar="URL",
        expose_value=False,
        callback=_store("server"),
        help="NATS server; see `dragoman --help`.",
    )(function)


def configuration_option(function: Function) -> Function:
    """``--config`` after the command's name too."""
    return click.option(
        "--config",
        metavar="FILE",
        expose_value=False,
        type=click.Path(path_type=Path),
        callback=_store("configuration"),
        help="Configuration file; see `dragoman --help`.",
    )(function)
