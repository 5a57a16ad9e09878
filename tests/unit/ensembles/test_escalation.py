"""Whether the next stage is worth its price, learned."""

from __future__ import annotations

import math
import random

import pytest

from dragoman_agents.ensembles.escalation import (
    Example,
    Scorer,
    fit_escalation,
    fit_scorer,
    observed,
    with_budget,
)


def test_what_is_observed_has_names_and_counts_again_when_all_agree() -> None:
    seen = observed(
        agree=False, subject="law", input_tokens=0, output_tokens={"a": math.e - 1, "b": None}
    )
    assert seen == {"always": 1.0, "subject law": 1.0, "input": 0.0, "output a": 1.0}
    assert observed(agree=True) == {"always": 1.0, "always agree": 1.0}


def test_a_scorer_learns_the_rate_of_each_subject_and_that_long_answers_are_doubtful() -> None:
    chance = random.Random(1)
    rows, right = [], []
    for _ in range(3000):
        subject, tokens = chance.choice(["easy", "hard"]), chance.randint(10, 1000)
        rows.append(observed(agree=False, subject=subject, output_tokens={"a": tokens}))
        right.append(chance.random() < (0.9 if subject == "easy" else 0.5) - tokens / 3000)

    scorer = fit_scorer(rows, right)

    def rate(subject: str, tokens: int) -> float:
        return scorer.probability(
            observed(agree=False, subject=subject, output_tokens={"a": tokens})
        )

    assert rate("easy", 150) == pytest.approx(0.85, abs=0.06)
    assert rate("hard", 150) == pytest.approx(0.45, abs=0.06)
    assert rate("easy", 900) < rate("easy", 20) - 0.1
    assert 0.3 < Scorer(weights=scorer.weights).probability({"never seen": 1.0}) < 0.7


def case(subject: str, stays: bool, goes: bool) -> Example:
    return Example(
        features=observed(agree=False, subject=subject),
        stays={"small": stays},
        goes=goes,
        price=1.0,
        further=10.0,
    )


def cases(count: int, seed: int) -> list[Example]:
    """In one subject the dear member is far better, in one a little, in one it is worse."""
    chance = random.Random(seed)
    rates = {"far": (0.5, 0.9), "little": (0.7, 0.8), "worse": (0.8, 0.6)}
    picked = (chance.choice(list(rates.items())) for _ in range(count))
    return [
        case(subject, chance.random() < low, chance.random() < high)
        for subject, (low, high) in picked
    ]


@pytest.mark.parametrize(
    ("budget", "worth"), [(4.6, {"far"}), (100.0, {"far", "little"}), (0.5, set())]
)
def test_money_goes_where_it_helps_most_and_never_where_it_hurts(
    budget: float, worth: set[str]
) -> None:
    seen = cases(3000, 1)
    learned = fit_escalation(seen, budget)

    assert with_budget(fit_escalation(seen, 1.0), seen, budget) == learned
    subjects = ("far", "little", "worse")
    features = {one: observed(agree=False, subject=one) for one in subjects}
    assert {one for one in subjects if learned.worth(features[one])} == worth
    assert learned.gain(features["far"]) == pytest.approx(0.4, abs=0.1)
    assert learned.best(features["worse"])[0] == "small"


def test_it_needs_something_to_learn_from() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fit_escalation([], 1.0)
    with pytest.raises(ValueError, match="as many rows"):
        fit_scorer([], [])
