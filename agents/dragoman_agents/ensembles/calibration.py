"""How sure is an answer that so many agree on? Learned from answers known to be right or wrong.

Agreement rises with correctness but is not a probability. Isotonic regression finds the steps
from one to the other without assuming a shape, and needs no more than counts.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

from msgspec import Struct

__all__ = ["Calibrator", "Step", "calibration_error", "coverage_at", "threshold_for"]

PRIOR_OBSERVATIONS = 2.0
"""How many observations the overall rate counts for in each step: few examples prove little."""


class Step(Struct, frozen=True):
    """Scores from ``score`` on have this ``confidence``; ``observations`` stand behind it."""

    score: float
    confidence: float
    observations: int


class Calibrator:
    """Turns a score (the share of a verdict) into the probability that the verdict is right.

    Args:
        steps: In order of score, with confidences that never fall.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps = tuple(steps)
        self._scores = [step.score for step in self.steps]
        if not self.steps or self._scores != sorted(self._scores):
            raise ValueError("a calibrator needs steps in order of score")

    @classmethod
    def fit(cls, scores: Sequence[float], correct: Sequence[bool]) -> Calibrator:
        """Learn from verdicts: the score of each, and whether it was right.

        Raises:
            ValueError: nothing to learn from, or lists of different lengths.
        """
        if not scores or len(scores) != len(correct):
            raise ValueError("as many scores as labels are needed, and at least one")
        tallies: dict[float, list[int]] = {}
        for score, right in zip(scores, correct, strict=True):
            tally = tallies.setdefault(score, [0, 0])
            tally[0] += 1
            tally[1] += right
        blocks = _pooled((score, hits, seen, seen) for score, (seen, hits) in tallies.items())
        # What a step is drawn to counts once for each step, not for each score within it.
        overall = sum(correct) / len(correct) * PRIOR_OBSERVATIONS
        drawn = _pooled(
            (score, hits + overall, seen + PRIOR_OBSERVATIONS, seen)
            for score, hits, _, seen in blocks
        )
        return cls(Step(score, hits / weight, seen) for score, hits, weight, seen in drawn)

    def confidence(self, score: float) -> float:
        """The probability that a verdict with this score is right."""
        at = bisect.bisect_right(self._scores, score) - 1
        return self.steps[max(0, at)].confidence

    def share_for(self, confidence: float) -> float | None:
        """The lowest score that stands for this confidence; ``None`` when no score does."""
        for step in self.steps:
            if step.confidence >= confidence:
                return step.score
        return None


def threshold_for(
    precision: float, scores: Sequence[float], correct: Sequence[bool]
) -> float | None:
    """The lowest score such that verdicts with it or more were right that often, all together.

    ``Calibrator.share_for`` asks as much of every single verdict; here sure ones make up for less
    sure ones, so more can be answered. ``None`` when no score does.
    """
    ranked = sorted(zip(scores, correct, strict=True), reverse=True)
    found = None
    hits = 0
    for index, (score, right) in enumerate(ranked):
        hits += right
        last_of_score = index + 1 == len(ranked) or ranked[index + 1][0] < score
        if last_of_score and hits >= precision * (index + 1):
            found = score
    return found


def calibration_error(
    confidences: Sequence[float], correct: Sequence[bool], *, bins: int = 10
) -> float:
    """The expected calibration error: how far stated confidence is from the truth, on average.

    Verdicts are put into ``bins`` of equal width; each counts by how many it holds.
    """
    if not confidences:
        return 0.0
    sums = [[0.0, 0] for _ in range(bins)]
    for confidence, right in zip(confidences, correct, strict=True):
        entry = sums[min(bins - 1, int(confidence * bins))]
        entry[0] += confidence
        entry[1] += right
    return sum(abs(said - right) for said, right in sums) / len(confidences)


def coverage_at(
    confidences: Sequence[float], correct: Sequence[bool], threshold: float
) -> tuple[float, float]:
    """``(precision, coverage)`` when everything below ``threshold`` is left unanswered."""
    kept = [
        right
        for confidence, right in zip(confidences, correct, strict=True)
        if confidence >= threshold
    ]
    if not kept:
        return 0.0, 0.0
    return sum(kept) / len(kept), len(kept) / len(confidences)


_Block = tuple[float, float, float, int]
"""Score, right, weight, observations."""


def _pooled(blocks: Iterable[_Block]) -> list[_Block]:
    """Pool adjacent violators: a step that would fall is merged with the one before."""
    kept: list[_Block] = []
    for block in sorted(blocks):
        while kept and kept[-1][1] / kept[-1][2] >= block[1] / block[2]:
            last = kept.pop()
            block = (last[0], last[1] + block[1], last[2] + block[2], last[3] + block[3])
        kept.append(block)
    return kept
