"""Figures of every row, and the goals beside what was reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from benchmarks.collective.cases import Split
from benchmarks.collective.evaluating import SplitResult
from benchmarks.collective.experiments import Failures, mean_liar
from benchmarks.collective.rows import ROWS, SINGLE
from benchmarks.collective.statistics import Estimate, estimate, percentile
from dragoman_agents.ensembles.calibration import calibration_error

__all__ = ["DESIGN", "SIMULATION", "Figure", "Goal", "Wanted", "details", "figures", "goals"]


class Figure(Struct):
    """One row of the report; parts are between 0 and 1.

    Attributes:
        key, title: The row.
        accuracy: Right answers among all questions.
        gain: The same, less what the best single model of the split reaches on the same questions.
        price: Mean price of a question, as a part of the best single model's.
        dollars: The same in US dollars for 1,000 questions.
        asked: Members asked for a question.
        p50, p95: Seconds on the simulated clock.
        answered: Questions that got an answer.
        precision: Right answers among those.
    """

    key: str
    title: str
    accuracy: Estimate
    gain: Estimate
    price: float
    dollars: float
    asked: float
    p50: float
    p95: float
    answered: float
    precision: float


class Goal(Struct):
    """A goal of the design beside what was reached, and whether it holds."""

    name: str
    wanted: str
    reached: str
    holds: bool


class Wanted(Struct, frozen=True):
    """What is to be reached, in parts of 1.

    Attributes:
        early_stop: The early stop's price beside that of the full vote.
        cascade: Gain of the cascade over the best single model.
        pool: Gain of the admitted pool's vote.
        unlabelled: What of the honest vote's gain is kept without labels.
    """

    early_stop: float = 0.5
    cascade: float = 0.005
    pool: float = 0.025
    unlabelled: float = 0.8


DESIGN = Wanted()
"""The goals of the design, for models as they are."""
SIMULATION = Wanted(early_stop=0.75, cascade=0.0, pool=0.005, unlabelled=0.5)
"""What simulated models allow: they differ in one number only, so that weak ones never help, no
subject has a better member, and a vote of the four best gains a point, not two and a half."""


def figures(divided: Sequence[Split], results: Sequence[SplitResult]) -> list[Figure]:
    """One for each row."""
    return [_figure(row.key, row.title, divided, results) for row in ROWS]


def _figure(
    key: str, title: str, divided: Sequence[Split], results: Sequence[SplitResult]
) -> Figure:
    accuracy, gain, seconds = [], [], []
    spent = single_spent = asked = answered = 0.0
    for split, result in zip(divided, results, strict=True):
        for case, got, alone in zip(
            split.test, result.outcomes[key], result.outcomes[SINGLE], strict=True
        ):
            right = float(got.value == case.truth)
            accuracy.append((split.number, case.id, right))
            gain.append((split.number, case.id, right - float(alone.value == case.truth)))
            seconds.append(got.seconds)
            spent += got.price
            single_spent += alone.price
            asked += got.asked
            answered += got.value is not None
    count = len(accuracy)
    return Figure(
        key=key,
        title=title,
        accuracy=estimate(accuracy),
        gain=estimate(gain),
        price=spent / single_spent,
        dollars=spent / count * 1000,
        asked=asked / count,
        p50=percentile(seconds, 0.5),
        p95=percentile(seconds, 0.95),
        answered=answered / count,
        precision=sum(right for _, _, right in accuracy) / max(1.0, answered),
    )


def goals(
    divided: Sequence[Split],
    results: Sequence[SplitResult],
    found: Sequence[Figure],
    failures: Failures,
    wanted: Wanted = DESIGN,
) -> list[Goal]:
    """The collective rows of the design, held against what is wanted."""
    by_key = {figure.key: figure for figure in found}
    differ = sum(
        one.value != other.value
        for result in results
        for one, other in zip(result.outcomes["pool"], result.outcomes["pool_full"], strict=True)
    )
    pool, full, everybody = by_key["pool"], by_key["pool_full"], by_key["all_learned"]
    cascade, abstain = by_key["cascade"], by_key["abstain"]
    lied = mean_liar([one for result in results for one in result.liars])
    error = _calibration(divided, results)
    worst = min(_routing(results).values())
    served = failures.served / failures.tasks
    return [
        Goal(
            "early-stop quorum: same verdict as the full vote",
            f"every item, at most {wanted.early_stop:.0%} of its cost",
            f"{differ} differ, {pool.price / full.price:.1%}",
            differ == 0 and pool.price <= wanted.early_stop * full.price,
        ),
        Goal(
            "agreement cascade",
            f"best single {100 * wanted.cascade:+.1f} points at most 55 % of its cost",
            f"{_points(cascade.gain)} at {cascade.price:.1%}",
            cascade.gain.mean >= wanted.cascade and cascade.price <= 0.55,
        ),
        Goal(
            "vote of an admitted pool",
            f"best single {100 * wanted.pool:+.1f} points",
            _points(pool.gain),
            pool.gain.mean >= wanted.pool,
        ),
        Goal(
            "whatever joins the pool (all vote, learned weights)",
            "never below best single -0.5 points, in any split",
            f"{_points(everybody.gain)}, worst split {100 * everybody.gain.lowest:+.1f}",
            everybody.gain.lowest >= -0.005,
        ),
        Goal(
            "abstain mode",
            "precision 90 % at 50 % coverage",
            f"{abstain.precision:.1%} at {abstain.answered:.1%}",
            abstain.precision >= 0.9 and abstain.answered >= 0.5,
        ),
        Goal(
            "confidence calibrated",
            "within 5 points",
            f"{100 * error:.1f} points (mean over splits)",
            error <= 0.05,
        ),
        Goal(
            "one always-wrong member of five, 200 labels",
            "80 % of the honest vote's gain kept",
            f"{lied.kept(lied.labels):.0%} (gain {100 * (lied.honest - lied.best):.1f} points)",
            lied.kept(lied.labels) >= 0.8,
        ),
        Goal(
            "the same, 200 observations without labels",
            f"{wanted.unlabelled:.0%} of the honest vote's gain kept",
            f"{lied.kept(lied.consensus):.0%}",
            lied.kept(lied.consensus) >= wanted.unlabelled,
        ),
        Goal(
            "failover: one provider down, one at 20 % errors",
            "99.9 % within the deadline, nobody paid without permission",
            f"{served:.2%} of {failures.tasks:,}, {failures.paid} paid, "
            f"{failures.failures:,} failures survived",
            served >= 0.999 and failures.paid == 0,
        ),
        Goal(
            "routing at any number of labels",
            "never more than 0.5 points below best single",
            f"worst mean {100 * worst:+.1f} points",
            worst >= -0.005,
        ),
    ]


def details(results: Sequence[SplitResult]) -> dict[str, Any]:
    """Figures that are no row."""
    lied = mean_liar([one for result in results for one in result.liars])
    return {
        "liar": {name: getattr(lied, name) for name in lied.__struct_fields__},
        "routing_gain_by_labels_per_subject": _routing(results),
        "pools": sorted({result.learned.pool.members for result in results}),
        "pairs": sorted({result.learned.pair for result in results if result.learned.pair}),
        "best": sorted({result.learned.best for result in results}),
    }


def _calibration(divided: Sequence[Split], results: Sequence[SplitResult]) -> float:
    errors = [
        calibration_error(
            result.confidences,
            [
                one.value == case.truth
                for one, case in zip(result.outcomes["pool_full"], split.test, strict=True)
            ],
        )
        for split, result in zip(divided, results, strict=True)
    ]
    return sum(errors) / len(errors)


def _routing(results: Sequence[SplitResult]) -> dict[int, float]:
    counts = results[0].routing
    return {
        count: sum(result.routing[count] for result in results) / len(results) for count in counts
    }


def _points(gain: Estimate) -> str:
    return f"{100 * gain.mean:+.2f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
