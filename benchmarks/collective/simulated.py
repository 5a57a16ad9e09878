"""Models whose errors correlate as those of real ones do, seeded: for a run anywhere.

One-parameter item response with a shared wrong answer: a question has a difficulty (normal) and one
attractive wrong answer; a model is right with probability logistic(3 x (skill - difficulty)), and
when wrong it gives the attractive answer in 60 % of all cases, else any other wrong one. With four
models of recorded accuracy this comes within a point or two of what votes and cascades of the real
ones did; independent errors would flatter every ensemble.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Iterable, Mapping

from benchmarks.collective.cases import Case, Dataset, Model, Reply
from benchmarks.collective.recorded import PROMPT_TOKENS, seconds_for
from dragoman_agents.ensembles.fitting import logistic

__all__ = ["CHOICES", "MODELS", "WRONG_FOR_SURE", "Simulated", "answers", "simulate", "skill_for"]

CHOICES = 10
STEEPNESS = 3.0
ATTRACTION = 0.6
WRONG_FOR_SURE = -100.0
"""The skill of a model that is always wrong."""
LETTERS = "ABCDEFGHIJ"
QUESTION_TOKENS = 120
"""The median; lengths are log-normal."""


class Simulated(Model, frozen=True):
    """A model with how often it is right, and how long its answers are on average."""

    accuracy: float = 0.5
    output_tokens: int = 100


MODELS = (
    Simulated("strong", 1.25, 5.0, 0.717, 60),
    Simulated("quick", 0.075, 0.3, 0.658, 90),
    Simulated("open-large", 0.88, 0.88, 0.649, 115),
    Simulated("coder", 0.14, 0.28, 0.639, 180),
    Simulated("older-large", 0.9, 0.9, 0.54, 240),
    Simulated("long-context", 2.0, 8.0, 0.52, 35),
    Simulated("wide", 1.8, 1.8, 0.51, 75),
    Simulated("medium", 0.9, 0.9, 0.50, 120),
    Simulated("small", 0.18, 0.18, 0.46, 200),
    Simulated("mixture", 0.6, 0.6, 0.45, 90),
    Simulated("mini", 0.1, 0.1, 0.45, 95),
    Simulated("retriever", 0.5, 1.5, 0.40, 90),
    Simulated("old-large", 0.9, 0.9, 0.385, 75),
    Simulated("older-small", 0.2, 0.2, 0.37, 245),
    Simulated("tiny", 0.2, 0.2, 0.32, 100),
    Simulated("old-medium", 0.3, 0.3, 0.25, 80),
    Simulated("old-small", 0.2, 0.2, 0.20, 70),
)
"""Seventeen models as the recorded ones are: one good and dear, three comparable, many weak."""


@functools.cache
def skill_for(accuracy: float) -> float:
    """The skill that gives about this accuracy over questions of normal difficulty."""
    low, high = -4.0, 4.0
    grid = [(index - 200) / 50 for index in range(401)]
    densities = [math.exp(-point * point / 2) for point in grid]
    for _ in range(40):
        middle = (low + high) / 2
        got = sum(
            density * logistic(STEEPNESS * (middle - point))
            for point, density in zip(grid, densities, strict=True)
        )
        if got / sum(densities) < accuracy:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def answers(skills: Mapping[str, float], chance: random.Random) -> tuple[int, dict[str, int]]:
    """The right answer to one new question, and what every model says."""
    difficulty = chance.gauss(0, 1)
    truth, attractor = chance.sample(range(CHOICES), 2)
    wrong = [answer for answer in range(CHOICES) if answer != truth]
    given = {}
    for member, skill in skills.items():
        if chance.random() < logistic(STEEPNESS * (skill - difficulty)):
            given[member] = truth
        elif chance.random() < ATTRACTION:
            given[member] = attractor
        else:
            given[member] = chance.choice(wrong)
    return truth, given


def simulate(count: int, seed: int, models: Iterable[Simulated] = MODELS) -> Dataset:
    """So many questions, answered by all models; the same for the same seed."""
    named = {model.name: model for model in models}
    skills = {name: skill_for(model.accuracy) for name, model in named.items()}
    chance, lengths = random.Random(seed), random.Random(seed + 1)
    return Dataset(
        title=f"{len(named)} simulated models, {count:,} questions, seed {seed}",
        models=named,
        cases=[_case(number, named, skills, chance, lengths) for number in range(count)],
        choices=CHOICES,
    )


def _case(
    number: int,
    models: Mapping[str, Simulated],
    skills: Mapping[str, float],
    chance: random.Random,
    lengths: random.Random,
) -> Case:
    truth, given = answers(skills, chance)
    tokens = max(8, round(QUESTION_TOKENS * lengths.lognormvariate(0.0, 0.5)))
    replies = {}
    for name, model in models.items():
        output = max(2, round(model.output_tokens * lengths.lognormvariate(-0.08, 0.4)))
        paid = model.input_price * (PROMPT_TOKENS + tokens) + model.output_price * output
        seconds = seconds_for(model, output, lengths)
        replies[name] = Reply(LETTERS[given[name]], output, paid / 1e6, seconds)
    return Case(f"s{number}", "", LETTERS[truth], tokens, replies)
