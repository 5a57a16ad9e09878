"""``dragoman schema``: the protocol's JSON Schemas, and whether a change of them breaks anybody."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import json_option, pass_settings
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]

version_option = click.option(
    "--version", "version", default="draft", show_default=True, help="draft, or a release as 1.0."
)


@click.group("schema")
def command() -> None:
    """Show and compare the JSON Schemas of the protocol."""


@command.command("ls")
@version_option
@json_option
@pass_settings
def list_schemas(settings: Settings, version: str) -> int:
    """List the schemas: one per message type, and those they share."""
    from dragoman_gateways.cli.schemas import list_schemas

    return list_schemas(version, settings)


@command.command("show")
@click.argument("name")
@version_option
def show_schema(name: str, version: str) -> int:
    """Write one schema to standard output; NAME is as `dragoman schema ls` shows it."""
    from dragoman_gateways.cli.schemas import show_schema

    return show_schema(name, version)


@command.command("diff")
@click.argument("old")
@click.argument("new")
@json_option
@pass_settings
def compare_schemas(settings: Settings, old: str, new: str) -> int:
    """Say whether NEW accepts less or more than OLD; both are folders, draft, or a release.

    Ends with exit code 5 when a document that OLD accepts may be refused by NEW: that needs a new
    major version. What cannot be judged counts as such.
    """
    from dragoman_gateways.cli.schemas import compare_schemas

    return compare_schemas(old, new, settings)
