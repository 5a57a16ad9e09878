"""``dragoman validate``: are these messages of the protocol?"""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import bus_options, json_option, pass_settings
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("validate")
@click.argument("sources", metavar="FILE...|-|--live [SUBJECT...]", nargs=-1)
@click.option("--live", is_flag=True, help="Judge what passes on the bus instead of files.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="With --live: end after a time."
)
@click.option("--count", type=click.IntRange(min=1), help="With --live: end after N messages.")
@json_option
@bus_options
@pass_settings
def command(
    settings: Settings,
    sources: tuple[str, ...],
    live: bool,
    seconds: float | None,
    count: int | None,
) -> int:
    """Judge messages by the reference validator: JSON Schema, and the rules beside it.

    For what is wrong it names the path, the rule and the section of the spec, and ends with exit
    code 5. A .jsonl file holds one document per line; - is standard input.

    With --live it taps all subjects of the protocol, the registry's and the inboxes (SUBJECT
    replaces them) and counts by type; only Dragoman's messages count there. While it taps, a task
    for a skill that nobody has is refused after a second instead of at once: the tap counts as
    somebody who listens.
    """
    if not live and (seconds is not None or count is not None):
        raise click.UsageError("--seconds and --count belong to --live")
    if not live and not sources:
        raise click.UsageError("name a file, - for standard input, or --live")
    from dragoman_gateways.cli.validating import validate_files, validate_live

    if live:
        return validate_live(sources, settings, seconds=seconds, count=count)
    return validate_files(sources, settings)
