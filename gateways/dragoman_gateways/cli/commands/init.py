"""``dragoman init``: a configuration file to start from."""

from __future__ import annotations

from pathlib import Path

import click

from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.options import json_option, pass_settings
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@json_option
@pass_settings
def command(settings: Settings, directory: Path, force: bool) -> int:
    """Write a commented dragoman.toml, and the small agent it names, into DIRECTORY."""
    from dragoman_gateways.cli.initializing import initialize

    written = initialize(directory, force=force)
    if settings.json:
        from dragoman_gateways.cli.output import write_json

        write_json({"written": [str(path) for path in written]})
    else:
        for path in written:
            click.echo(f"wrote {path}")
        where = "" if directory == Path() else f"cd {directory} && "
        click.echo(f"Next: {where}dragoman up   and, in another terminal, dragoman ask greet Ada")
    return ExitCode.OK
