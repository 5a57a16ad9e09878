"""``dragoman learn``: what an ensemble needs to know of its members, from labelled questions."""

from __future__ import annotations

from pathlib import Path

import click

from dragoman_gateways.cli.options import (
    bus_options,
    configuration_option,
    json_option,
    pass_settings,
    token,
)
from dragoman_gateways.cli.settings import Settings

__all__ = ["command"]

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("learn")
@click.argument("ensemble", metavar="ENSEMBLE", callback=token)
@click.argument("questions", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--answers",
    metavar="FILE",
    type=FILE,
    help="Keep what members say here, and ask nobody what stands here already.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=FILE,
    help="Where to write what was learned. Default: what `learned` says in the configuration.",
)
@click.option(
    "--escalate",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    default=0.4,
    show_default=True,
    help="Of a cascade: what part of the tasks may go on to the next stage, at its average price.",
)
@click.option(
    "--at-once",
    metavar="N",
    type=click.IntRange(1, 256),
    default=4,
    show_default=True,
    help="How many questions are asked at the same time.",
)
@click.option(
    "--deadline",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="How long a member may take to answer a question.",
)
@json_option
@configuration_option
@bus_options
@pass_settings
def command(
    settings: Settings,
    ensemble: str,
    questions: Path | None,
    answers: Path | None,
    output: Path | None,
    escalate: float,
    at_once: int,
    deadline: float,
) -> int:
    """Learn weights (consensus), escalations (cascade) or qualities (router), and write them.

    ENSEMBLE is one of the configuration file. QUESTIONS has one JSON object per line: `input` (a
    text or an object) and `truth` (the right answer). Every member is asked every question, which
    costs what it costs; the members have to be on the bus, the ensemble need not. Without
    QUESTIONS, a consensus or a router learns from what its skill `feedback` was told.

    Says how often each member is right, and how often the ensemble would be, of questions that it
    did not learn from.

    \b
    dragoman learn panel questions.jsonl --answers answers.jsonl --output panel.json
    """
    from dragoman_gateways.cli.learning import LearnRequest, learn

    return learn(
        LearnRequest(
            ensemble=ensemble,
            questions=questions,
            answers=answers,
            output=output,
            escalate=escalate,
            at_once=at_once,
            deadline=deadline,
        ),
        settings,
    )
