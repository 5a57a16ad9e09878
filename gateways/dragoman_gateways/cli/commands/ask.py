"""``dragoman ask``: give a task to a skill and read the answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dragoman_gateways.cli.options import bus_options, json_option, money, pass_settings, token
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]


@click.command("ask")
@click.argument("target", metavar="SKILL|AGENT/SKILL")
@click.argument("text", required=False)
@click.option("--agent", metavar="NAME", help="Only this agent; the same as AGENT/SKILL.")
@click.option("--input", "document", metavar="JSON", help="The input as a JSON document.")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the text from a file.",
)
@click.option(
    "--deadline",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="How long the task may take.",
)
@click.option(
    "--max-cost",
    metavar="MONEY",
    callback=money,
    help="What the task and all below it may cost, as in 0.02USD.",
)
@click.option(
    "--max-tokens",
    metavar="N",
    type=click.IntRange(min=1),
    help="How many tokens the task and all below it may use.",
)
@click.option(
    "--context",
    "context_id",
    metavar="ID",
    callback=token,
    help="The context that it belongs to: a router keeps it at its member.",
)
@click.option(
    "--durable",
    is_flag=True,
    help="Store the task: it survives the death of worker, server and this program.",
)
@click.option("--detach", is_flag=True, help="With --durable: write the task's id and leave.")
@click.option(
    "--id",
    "task_id",
    metavar="ID",
    callback=token,
    help="With --durable: the task's id; asked again with it, it is the same task.",
)
@click.option(
    "--class",
    "class_",
    type=click.Choice(["interactive", "batch"]),
    help="With --durable: the queue it waits in. Default: interactive.",
)
@click.option(
    "--attempts",
    metavar="N",
    type=click.IntRange(1, 100),
    help="With --durable: how often it is tried. Default: 5.",
)
@click.option(
    "--ordered",
    is_flag=True,
    help="With --durable and --context: begin after all such tasks of the context before it.",
)
@json_option
@bus_options
@pass_settings
def command(
    settings: Settings,
    /,
    target: str,
    text: str | None,
    agent: str | None,
    document: str | None,
    path: Path | None,
    deadline: float,
    max_cost: Any,
    max_tokens: int | None,
    context_id: str | None,
    durable: bool,
    **how: Any,
) -> int:
    """Give a task to a skill (whoever has it), or to the skill of one agent.

    TEXT is the input; - reads it from standard input. The answer streams to standard output;
    progress, who answered, the model, the time and the cost go to standard error. A question of
    the task is asked back on the terminal. Ctrl-C cancels the task; a durable one goes on, and
    `dragoman task watch ID` continues where its stream stopped.

    \b
    dragoman ask translate "Good morning!"
    dragoman ask counter/count --file letter.txt --input '{"most": 3}'
    dragoman ask --durable --id report-7 report --file letter.txt
    dragoman ask --durable --detach --context case-7 --ordered report "the second letter"
    """
    from dragoman_gateways.cli.asking import Durable, Question, ask, build_input, parse_target

    if not durable and any(how.values()):
        raise click.UsageError("--detach, --id, --class, --attempts and --ordered need --durable")
    if how["ordered"] and context_id is None:
        raise click.UsageError("--ordered needs --context: its tasks run one after the other")
    if text is not None and path is not None:
        raise click.UsageError("give the text as an argument or with --file, not both")
    skill, chosen = parse_target(target, agent)
    return ask(
        Question(
            skill=skill,
            agent=chosen,
            input=build_input(_read(text, path), document),
            options={
                "deadline": deadline,
                "max_cost": max_cost,
                "max_tokens": max_tokens,
                "context_id": context_id,
            },
            durable=Durable(**how) if durable else None,
        ),
        settings,
    )


def _read(text: str | None, path: Path | None) -> str | None:
    if path is None and text != "-":
        return text
    content = sys.stdin.buffer.read() if path is None else path.read_bytes()
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise click.UsageError(f"{path or 'standard input'} is not UTF-8 text") from None
