"""Options that several commands share, so that they look and behave the same everywhere."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from dragoman_gateways.cli.settings import Settings

__all__ = [
    "bus_options",
    "configuration_option",
    "json_option",
    "moment",
    "money",
    "page_options",
    "pass_settings",
    "token",
]

Function = TypeVar("Function", bound=Callable[..., Any])

pass_settings = click.make_pass_decorator(Settings, ensure=True)


def _store(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that stores the value in the settings, when one was given."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            setattr(ctx.ensure_object(Settings), name, value)

    return callback


def token(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback that refuses what cannot be a name or an id, one or several."""
    from dragoman_bus.protocol.subjects import is_token

    given = value if isinstance(value, tuple) else (value,)
    for text in given:
        if text is not None and not is_token(text):
            raise click.BadParameter(
                f"{text!r} is no name: lower-case letters, digits, - and _, at most 63",
                ctx,
                parameter,
            )
    return value


def moment(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A callback: Unix seconds of ``90s``, ``15m``, ``2h``, ``3d`` ago, or of an ISO 8601 time."""
    if value is None:
        return None
    age = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", value)
    if age is not None:
        return time.time() - float(age[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[age[2]]
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no time: write 15m, 2h or 3d (ago), or 2026-11-27T22:10", ctx, parameter
        ) from None


def money(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """A callback: the ``Cost`` of ``0.02USD`` or ``"0.02 USD"``."""
    if value is None:
        return None
    from dragoman_bus.protocol.payloads import Cost

    amount = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Z]{3})", value)
    if amount is None:
        raise click.BadParameter(
            f"{value!r} is no amount of money: write 0.02USD (a currency of ISO 4217)",
            ctx,
            parameter,
        )
    return Cost(amount=float(amount[1]), currency=amount[2])


def page_options(function: Function) -> Function:
    """``--limit`` and ``--page``: how much of a list is shown, and where it goes on."""
    limit = click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(min=1),
        default=50,
        show_default=True,
        help="How many at most.",
    )
    page = click.option(
        "--page",
        metavar="POSITION",
        type=click.IntRange(min=1),
        help="Go on where a page ended: the number that it told.",
    )
    return limit(page(function))


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
