"""Members whose errors correlate as those of real models do: the simulator of the benchmark."""

from __future__ import annotations

import random
from collections.abc import Mapping

from benchmarks.collective.simulated import CHOICES, WRONG_FOR_SURE, answers, skill_for
from dragoman_agents.ensembles.admission import Labelled

__all__ = ["CHOICES", "WRONG_FOR_SURE", "questions", "skill_for"]


def questions(skills: Mapping[str, float], count: int, seed: int) -> list[Labelled]:
    """What every member says to each of ``count`` questions."""
    chance = random.Random(seed)
    asked = (answers(skills, chance) for _ in range(count))
    return [Labelled(given, truth) for truth, given in asked]
