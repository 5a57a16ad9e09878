"""The ``dragoman`` command line: everything people do with the bus from a terminal."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of the ``dragoman`` script."""
    from dragoman_gateways.cli.application import cli

    cli(prog_name="dragoman")
