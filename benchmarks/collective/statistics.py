"""How sure a figure is: intervals over questions, spread over splits, percentiles."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec import Struct

__all__ = ["Estimate", "estimate", "percentile"]

NORMAL_95 = 1.959964


class Estimate(Struct, frozen=True):
    """A mean; its 95 % interval over questions; the lowest and the highest split.

    Attributes:
        mean: Over all questions and repeats.
        low, high: Bounds of the interval. A question that was reported on several times counts
            as one: repeats do not make an interval narrower than the questions allow.
        lowest, highest: Means of single splits.
    """

    mean: float
    low: float
    high: float
    lowest: float
    highest: float


def estimate(values: Iterable[tuple[int, str, float]]) -> Estimate:
    """From (split, question, value).

    Raises:
        ValueError: no values.
    """
    by_question: defaultdict[str, list[float]] = defaultdict(list)
    by_split: defaultdict[int, list[float]] = defaultdict(list)
    for split, question, value in values:
        by_question[question].append(value)
        by_split[split].append(value)
    if not by_question:
        raise ValueError("nothing was measured")
    means = [sum(found) / len(found) for found in by_question.values()]
    mean = math.fsum(means) / len(means)
    spread = math.fsum((one - mean) ** 2 for one in means) / max(1, len(means) - 1)
    half = NORMAL_95 * math.sqrt(spread / len(means))
    splits = [sum(found) / len(found) for found in by_split.values()]
    return Estimate(mean, mean - half, mean + half, min(splits), max(splits))


def percentile(values: Sequence[float], part: float) -> float:
    """The value below or at which this part of all lies; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(part * len(ordered)) - 1))]
