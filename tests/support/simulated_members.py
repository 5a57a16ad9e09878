"""Members whose errors correlate as those of real models do, seeded.

A question has a difficulty and one attractive wrong answer. A member is right with a probability
that falls with the difficulty; when it is wrong it often gives the attractive answer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from dragoman_agents.ensembles.admission import Labelled

CHOICES = 10
STEEPNESS = 3.0
ATTRACTION = 0.6
WRONG_FOR_SURE = -100.0
"""The skill of a member that is always wrong."""


def skill_for(accuracy: float) -> float:
    """The skill that gives about this accuracy over questions of normal difficulty."""
    low, high = -4.0, 4.0
    grid = [(index - 200) / 50 for index in range(401)]
    densities = [math.exp(-point * point / 2) for point in grid]
    for _ in range(40):
        middle = (low + high) / 2
        got = sum(
            d * _sigmoid(STEEPNESS * (middle - g)) for g, d in zip(grid, densities, strict=True)
        )
        if got / sum(densities) < accuracy:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def questions(skills: Mapping[str, float], count: int, seed: int) -> list[Labelled]:
    """What every member says to each of ``count`` questions."""
    chance = random.Random(seed)
    return [_question(skills, chance) for _ in range(count)]


def _question(skills: Mapping[str, float], chance: random.Random) -> Labelled:
    difficulty = chance.gauss(0, 1)
    truth, attractor = chance.sample(range(CHOICES), 2)
    wrong = [answer for answer in range(CHOICES) if answer != truth]
    answers = {}
    for member, skill in skills.items():
        if chance.random() < _sigmoid(STEEPNESS * (skill - difficulty)):
            answers[member] = truth
        elif chance.random() < ATTRACTION:
            answers[member] = attractor
        else:
            answers[member] = chance.choice(wrong)
    return Labelled(answers, truth)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, x))))
