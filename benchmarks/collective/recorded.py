"""Recorded answers of real models, from a folder that is not part of this project.

``answers.csv.gz`` has one row per question: ``question_id``, ``subject``, ``answer`` (a letter),
``question_tokens``, then ``MODEL:pick`` (a letter, empty for none) and ``MODEL:output_tokens`` for
each model. ``prices.csv`` has ``model``, ``usd_per_million_input_tokens`` and
``usd_per_million_output_tokens``. Latencies were not recorded: they are simulated from lengths.
"""

from __future__ import annotations

import csv
import gzip
import random
import re
from pathlib import Path

from benchmarks.collective.cases import Case, Dataset, Model, Reply

__all__ = ["PROMPT_TOKENS", "agent_name", "load", "seconds_for"]

PROMPT_TOKENS = 1000
"""Of the instructions and examples before each question, as the recordings had them."""
FIRST_TOKEN_SECONDS = 0.4
FAST_TOKENS_A_SECOND = 160.0
SLOW_TOKENS_A_SECOND = 60.0
DEAR = 0.8
"""US dollars per million output tokens from which on a model is taken for a slow one."""


def load(folder: Path, seed: int = 1) -> Dataset:
    """Read the folder.

    Raises:
        SystemExit: with what is missing or wrong, and where.
    """
    answers, prices = folder / "answers.csv.gz", folder / "prices.csv"
    for path in (answers, prices):
        if not path.is_file():
            raise SystemExit(f"{path} is missing: see benchmarks/collective/recorded.py")
    with prices.open(newline="") as file:
        models = {
            row["model"]: Model(
                agent_name(row["model"]),
                float(row["usd_per_million_input_tokens"]),
                float(row["usd_per_million_output_tokens"]),
            )
            for row in csv.DictReader(file)
        }
    chance = random.Random(seed)
    with gzip.open(answers, "rt", newline="") as file:
        reader = csv.DictReader(file)
        unpriced = {
            column.removesuffix(":pick")
            for column in reader.fieldnames or ()
            if column.endswith(":pick")
        } - models.keys()
        if unpriced:
            raise SystemExit(f"{prices} has no price of {', '.join(sorted(unpriced))}")
        present = {
            column: model
            for column, model in models.items()
            if f"{column}:pick" in (reader.fieldnames or ())
        }
        try:
            cases = [_case(row, present, chance) for row in reader]
        except (KeyError, ValueError) as error:
            raise SystemExit(f"{answers}, row {reader.line_num}: {error}") from None
    if not cases or not present:
        raise SystemExit(f"{answers} has no questions, or no answers")
    return Dataset(
        title=f"recorded answers of {len(present)} models to {len(cases):,} questions",
        models={model.name: model for model in present.values()},
        cases=cases,
        choices=10,
    )


def seconds_for(model: Model, output_tokens: int, chance: random.Random) -> float:
    """How long an answer takes on the simulated clock: dear models are taken for slow ones."""
    rate = SLOW_TOKENS_A_SECOND if model.output_price >= DEAR else FAST_TOKENS_A_SECOND
    return (FIRST_TOKEN_SECONDS + output_tokens / rate) * chance.lognormvariate(0.0, 0.35)


def agent_name(model: str) -> str:
    """The name of the agent that stands for a model."""
    return re.sub(r"[^a-z0-9_-]", "-", model.lower())[:63]


def _case(row: dict[str, str], models: dict[str, Model], chance: random.Random) -> Case:
    tokens = int(row["question_tokens"])
    return Case(
        id=row["question_id"],
        subject=row["subject"],
        truth=row["answer"],
        input_tokens=tokens,
        replies={
            model.name: _reply(row, column, model, tokens, chance)
            for column, model in models.items()
        },
    )


def _reply(
    row: dict[str, str], column: str, model: Model, tokens: int, chance: random.Random
) -> Reply:
    output = int(row[f"{column}:output_tokens"])
    paid = model.input_price * (PROMPT_TOKENS + tokens) + model.output_price * output
    return Reply(
        pick=row[f"{column}:pick"] or None,
        output_tokens=output,
        price=paid / 1e6,
        seconds=seconds_for(model, output, chance),
    )
