"""Finds the numbers that explain labelled results best: one small, deterministic optimizer.

Full gradients and Adam's steps: what is fitted here is concave and has some hundred numbers, so
neither a library of linear algebra nor chance is needed, and a repetition gives the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["climb", "log_odds", "logistic"]

STEPS = 80
RATE = 0.1
FIRST_DECAY = 0.9
SECOND_DECAY = 0.999
TINY = 1e-8


def climb(
    gradient: Callable[[list[float]], list[float]],
    start: list[float],
    *,
    floors: list[float] | None = None,
    steps: int = STEPS,
    rate: float = RATE,
) -> list[float]:
    """Numbers near the maximum of a concave function.

    Args:
        gradient: Of the function, at the numbers it is given; it must not keep that list.
        start: Where to begin.
        floors: What each number is at least.
        steps: How many steps to take; they get shorter in the second half.
        rate: How long a step is at first.
    """
    at = list(start)
    first = [0.0] * len(at)
    second = [0.0] * len(at)
    for step in range(1, steps + 1):
        length = rate * min(1.0, 2.0 * (steps - step + 1) / steps)
        faster, slower = 1 - FIRST_DECAY**step, 1 - SECOND_DECAY**step
        for index, slope in enumerate(gradient(at)):
            first[index] += (1 - FIRST_DECAY) * (slope - first[index])
            second[index] += (1 - SECOND_DECAY) * (slope * slope - second[index])
            moved = first[index] / faster / (math.sqrt(second[index] / slower) + TINY)
            at[index] += length * moved
        if floors is not None:
            at = [max(number, floor) for number, floor in zip(at, floors, strict=True)]
    return at


def logistic(score: float) -> float:
    """The probability that stands for log-odds."""
    if score >= 0:
        return 1.0 / (1.0 + math.exp(-score))
    raised = math.exp(score)
    return raised / (1.0 + raised)


def log_odds(probability: float) -> float:
    """The log-odds that stand for a probability strictly between 0 and 1."""
    return math.log(probability / (1.0 - probability))
