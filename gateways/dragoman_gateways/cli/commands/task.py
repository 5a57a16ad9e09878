"""``dragoman task``: durable tasks, wherever they were submitted."""

from __future__ import annotations

import click

from dragoman_gateways.cli.options import (
    bus_options,
    json_option,
    moment,
    page_options,
    pass_settings,
    token,
)
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]

STATES = ("submitted", "working", "input-required", "completed", "failed", "canceled", "rejected")

task_argument = click.argument("task_id", metavar="ID", callback=token)
after_option = click.option(
    "--after",
    metavar="POSITION",
    type=click.IntRange(min=0),
    default=0,
    help="Only what follows this position of the log.",
)


@click.group("task")
def command() -> None:
    """Look at durable tasks, follow, answer and cancel them.

    A durable task outlives whoever asked for it (`dragoman ask --durable`). Its log is kept for
    some days after its end; every entry has a position, from which a reader can go on.
    """


@command.command("get")
@task_argument
@json_option
@bus_options
@pass_settings
def get_task(settings: Settings, task_id: str) -> int:
    """Show one task: state, attempts, steps, children, usage and output."""
    from dragoman_gateways.cli.tasks import get_task

    return get_task(task_id, settings)


@command.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only tasks in this state now.")
@click.option("--skill", metavar="NAME", callback=token, help="Only tasks of this skill.")
@click.option("--context", metavar="ID", callback=token, help="Only tasks of this context.")
@click.option(
    "--since",
    metavar="TIME",
    callback=moment,
    help="Submitted since: 15m, 2h, 3d (ago), or a time.",
)
@click.option("--until", metavar="TIME", callback=moment, help="Submitted before.")
@click.option("--oldest-first", is_flag=True, help="The other order; default: the latest first.")
@page_options
@json_option
@bus_options
@pass_settings
def list_tasks(
    settings: Settings,
    state: str | None,
    skill: str | None,
    context: str | None,
    since: float | None,
    until: float | None,
    oldest_first: bool,
    limit: int,
    page: int | None,
) -> int:
    """List tasks, the latest first."""
    from dragoman_gateways.cli.tasks import Query, list_tasks

    query = Query(
        state=state,
        skill=skill,
        context=context,
        since=since,
        until=until,
        oldest_first=oldest_first,
        limit=limit,
        page=page,
    )
    return list_tasks(query, settings)


@command.command("watch")
@task_argument
@after_option
@json_option
@bus_options
@pass_settings
def watch_task(settings: Settings, task_id: str, after: int) -> int:
    """Show a task's stream up to its end, as `dragoman ask` does, with the same exit codes.

    With --after it continues where another one stopped. A question is asked back on the terminal.
    Ctrl-C leaves, and the task goes on.
    """
    from dragoman_gateways.cli.tasks import watch_task

    return watch_task(task_id, settings, after=after)


@command.command("replay")
@task_argument
@after_option
@click.option("--follow", is_flag=True, help="Go on live until the task ends.")
@json_option
@bus_options
@pass_settings
def replay_task(settings: Settings, task_id: str, after: int, follow: bool) -> int:
    """Show a task's log entry by entry: who stored what, when, at which position.

    With --json each line has the whole message.
    """
    from dragoman_gateways.cli.replaying import replay_task

    return replay_task(task_id, settings, after=after, follow=follow)


@command.command("reply")
@task_argument
@click.argument("text", required=False)
@click.option("--input", "document", metavar="JSON", help="The answer as a JSON document.")
@json_option
@bus_options
@pass_settings
def reply_to_task(settings: Settings, task_id: str, text: str | None, document: str | None) -> int:
    """Answer the question of a task that waits for one; any replica goes on with it."""
    from dragoman_gateways.cli.tasks import reply_to_task

    if text is None and document is None:
        raise click.UsageError("give the answer as TEXT or with --input")
    return reply_to_task(task_id, text, document, settings)


@command.command("cancel")
@task_argument
@click.option("--reason", metavar="TEXT", default="", help="For people; it is kept in the log.")
@click.option("--no-wait", is_flag=True, help="Store the wish and leave; it lands by itself.")
@json_option
@bus_options
@pass_settings
def cancel_task(settings: Settings, task_id: str, reason: str, no_wait: bool) -> int:
    """Cancel a task and all that it delegated, and wait until it has ended.

    Ends with exit code 1 when the task had ended otherwise before.
    """
    from dragoman_gateways.cli.tasks import cancel_task

    return cancel_task(task_id, reason, settings, wait=not no_wait)
