"""``dragoman dlq``: durable tasks that failed for good."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import (
    bus_options,
    json_option,
    page_options,
    pass_settings,
    token,
)
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.group("dlq")
def command() -> None:
    """Look at dead letters: durable tasks that failed. Redrive them, or drop them.

    A dead letter has the task's input, every attempt with its error, and what the last one had
    streamed. It is settled once: redriven as a new task, or dropped.
    """


@command.command("ls")
@click.option("--skill", metavar="NAME", callback=token, help="Only those of this skill.")
@click.option("--all", "settled", is_flag=True, help="Also those that were redriven or dropped.")
@page_options
@json_option
@bus_options
@pass_settings
def list_letters(
    settings: Settings, skill: str | None, settled: bool, limit: int, page: int | None
) -> int:
    """List dead letters that nobody has settled, the oldest first."""
    from dragoman_gateways.cli.dead_letters import list_letters

    return list_letters(settings, skill=skill, settled=settled, limit=limit, page=page)


@command.command("show")
@click.argument("task_id", metavar="ID", callback=token)
@json_option
@bus_options
@pass_settings
def show_letter(settings: Settings, task_id: str) -> int:
    """Show one dead letter: input, attempts, errors, partial output, what became of it."""
    from dragoman_gateways.cli.dead_letters import show_letter

    return show_letter(task_id, settings)


@command.command("redrive")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True, callback=token)
@click.option("--agent", metavar="NAME", callback=token, help="To this agent.")
@click.option(
    "--force",
    is_flag=True,
    help="With --agent: also to one that is not there, or lacks the skill; the task waits for it.",
)
@click.option("--model", metavar="MODEL", help="To an agent that has the skill with this model.")
@click.option("--skill", metavar="NAME", callback=token, help="As a task of another skill.")
@click.option(
    "--deadline",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="How long the new task may take.",
)
@click.option("--reason", metavar="TEXT", default="", help="For people; it is kept.")
@json_option
@bus_options
@pass_settings
def redrive_letters(
    settings: Settings,
    task_ids: tuple[str, ...],
    agent: str | None,
    force: bool,
    model: str | None,
    skill: str | None,
    deadline: float,
    reason: str,
) -> int:
    """Submit failed tasks again, as new tasks whose ids go to standard output.

    Without options a task goes where it went before. Nothing is redriven twice: asked again, it
    tells the id of the first time.

    \b
    dragoman dlq redrive 01k2m3n4p5 --agent careful
    dragoman dlq redrive 01k2m3n4p5 --model openai/gpt-large
    """
    from dragoman_gateways.cli.dead_letters import Redrive, redrive_letters

    if agent and model:
        raise click.UsageError("give --agent or --model, not both")
    if force and not agent:
        raise click.UsageError("--force needs --agent")
    how = Redrive(
        agent=agent, force=force, model=model, skill=skill, deadline=deadline, reason=reason
    )
    return redrive_letters(task_ids, how, settings)


@command.command("drop")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True, callback=token)
@click.option("--reason", metavar="TEXT", required=True, help="For people; it is kept.")
@json_option
@bus_options
@pass_settings
def drop_letters(settings: Settings, task_ids: tuple[str, ...], reason: str) -> int:
    """Settle dead letters without doing anything."""
    from dragoman_gateways.cli.dead_letters import drop_letters

    return drop_letters(task_ids, reason, settings)
