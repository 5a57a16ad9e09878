"""``dragoman models``: which providers and models can be used from here."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import configuration_option, json_option, pass_settings
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("models")
@click.option("--offline", is_flag=True, help="Ask nobody; say only what is installed and set.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest to wait for answers.",
)
@json_option
@configuration_option
@pass_settings
def command(settings: Settings, offline: bool, timeout: float) -> int:
    """List model providers, and the models of the configuration file.

    Says what is installed, where each key is looked for (its name, never its value) and whether
    the provider answers. Providers are asked for their list of models, which costs nothing; those
    without a key are not asked.
    """
    from dragoman_gateways.cli.inventory import list_models

    return list_models(settings, ask=not offline, seconds=timeout)
