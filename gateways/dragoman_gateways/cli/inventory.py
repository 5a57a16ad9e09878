"""Shows what ``dragoman models`` finds: providers, and the configured models, as tables or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET
from rich.table import Table
from rich.text import Text

from dragoman_agents.models.inventory import (
    KeyStatus,
    ModelStatus,
    ProviderStatus,
    model_statuses,
    provider_statuses,
)
from dragoman_gateways.cli.event_loop import run
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import console, error_console, printable, write_json
from dragoman_gateways.cli.settings import Settings

if TYPE_CHECKING:
    from dragoman_agents.configuration import Configuration
    from dragoman_agents.models.settings import ModelSettings

__all__ = ["list_models"]

NO_MODEL = "The configuration has no models; see docs/models.md."


def list_models(settings: Settings, *, ask: bool, seconds: float) -> ExitCode:
    """Show providers and models; see ``dragoman models --help``."""
    return run(_list(settings, ask, seconds))


async def _list(settings: Settings, ask: bool, seconds: float) -> ExitCode:
    configured = _configured(settings.load())
    providers = await provider_statuses(ask=ask, seconds=seconds)
    models = await model_statuses(configured, ask=ask, seconds=seconds)
    if settings.json:
        write_json(
            {
                "providers": [
                    msgspec.to_builtins(one) | {"installed": one.installed} for one in providers
                ],
                "models": models,
            }
        )
        return ExitCode.OK
    console().print(_provider_table(providers))
    if models:
        console().print()
        console().print(_model_table(models))
    else:
        error_console().print(NO_MODEL, style="dim", markup=False)
    return ExitCode.OK


def _configured(configuration: Configuration) -> Mapping[str, ModelSettings]:
    """The models by role, then those that agents declare in place."""
    found: dict[str, Any] = dict(configuration.models)
    for agent in configuration.agents:
        if agent.model is not None and agent.model not in configuration.models.values():
            found[f"agent {agent.label}"] = agent.model
    return found


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading)
    return table


def _provider_table(statuses: list[ProviderStatus]) -> Table:
    table = _table("PROVIDER", "INSTALLED", "KEY", "REACHABLE", "WHAT IT IS")
    for status in statuses:
        installed = Text("yes", style="green") if status.installed else Text(status.install)
        if not status.supported:
            installed = Text("not on this platform", style="dim")
        table.add_row(
            Text(status.provider, style="bold"),
            installed,
            _key(status.key),
            _reached(status.reachable, status.problem),
            Text(status.about, style="dim"),
        )
    return table


def _model_table(statuses: list[ModelStatus]) -> Table:
    table = _table("ROLE", "PROVIDER", "MODEL", "KEY", "REACHABLE", "PRICE", "RETIRES")
    for status in statuses:
        facts = status.facts
        table.add_row(
            Text(printable(status.role), style="bold"),
            Text(status.provider),
            Text(printable("" if facts.model is UNSET else str(facts.model))),
            _key(status.key),
            _reached(status.reachable, status.problem),
            Text(_price(status)),
            Text("unknown" if facts.retires_on is UNSET else str(facts.retires_on)),
        )
    return table


def _key(status: KeyStatus | None) -> Text:
    if status is None:
        return Text("none needed", style="dim")
    if status.present:
        return Text(printable(status.source), style="green")
    return Text(f"{printable(status.source)} (not set)", style="yellow")


def _reached(reachable: bool | None, problem: str | None) -> Text:
    if reachable is None:
        return Text("not asked", style="dim")
    return Text("yes", style="green") if reachable else Text(f"no: {printable(problem or '')}")


def _price(status: ModelStatus) -> str:
    price = status.facts.price
    if isinstance(price, msgspec.UnsetType):
        return "unknown"
    given, made = price.input_per_million_tokens, price.output_per_million_tokens
    return f"{given:g} / {made:g} {price.currency} per million ({price.as_of})"
