"""Learns on one part, reports on the other, for every split; several at once.

A result says, for each row, what came of every question. Figures are made of them in ``figures``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

from msgspec import Struct

from benchmarks.collective.cases import Dataset, Split
from benchmarks.collective.experiments import Liar, liar, routing_by_labels
from benchmarks.collective.learning import Learned, learn
from benchmarks.collective.policies import Outcome
from benchmarks.collective.rows import ROWS

__all__ = ["LIAR_DRAWS", "SplitResult", "evaluate", "evaluate_split"]

LIAR_DRAWS = 4
"""How many draws of 200 observations are made in each split."""


class SplitResult(Struct):
    """What came of one split.

    Attributes:
        number: Which split.
        learned: What its training part taught.
        confidences: Of the pool's verdicts, calibrated, in the order of the test part.
        outcomes: By row, in the order of the test part.
        liars: One for each draw of observations.
        routing: Gain of the router over the best single member, by labels for each subject.
    """

    number: int
    learned: Learned
    confidences: list[float]
    outcomes: dict[str, list[Outcome]]
    liars: list[Liar]
    routing: dict[int, float]


def evaluate_split(dataset: Dataset, split: Split) -> SplitResult:
    """One split."""
    learned = learn(dataset, split.train)
    outcomes = {}
    for row in ROWS:
        decide = row.make(learned, dataset.choices)
        outcomes[row.key] = [decide(case) for case in split.test]
    draws = range(split.number * LIAR_DRAWS, (split.number + 1) * LIAR_DRAWS)
    confidences = [one.confidence or 0.0 for one in outcomes["pool_full"]]
    return SplitResult(
        number=split.number,
        learned=learned,
        confidences=[learned.calibrator.confidence(one) for one in confidences],
        outcomes=outcomes,
        liars=[liar(dataset, learned, split.train, split.test, draw) for draw in draws],
        routing=routing_by_labels(learned, split.train, split.test, split.number),
    )


def evaluate(
    dataset: Dataset,
    divided: Sequence[Split],
    *,
    processes: int | None = None,
    tell: Callable[[str], None] = print,
) -> list[SplitResult]:
    """All splits, in processes of their own."""
    workers = min(len(divided), processes or os.cpu_count() or 1)
    if workers == 1:
        return [evaluate_split(dataset, split) for split in divided]
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(evaluate_split, dataset, split) for split in divided]
        results = []
        for job in jobs:
            results.append(job.result())
            tell(f"split {len(results)} of {len(divided)}")
    return results
