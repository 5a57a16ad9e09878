"""Routing: hard requirements, learned quality, and what else the policy weighs."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from dragoman_agents.ensembles.routing import Candidate, Policy, QualityTable, Router, Wanted

SMALL = Candidate(name="small", price=0.1, latency=0.5, context_window=8_000)
LARGE = Candidate(
    name="large", price=1.0, latency=2.0, context_window=200_000, capabilities=frozenset({"tools"})
)
ODD = Candidate(name="odd", capabilities=frozenset({"tools"}))


def known(**accuracies: tuple[int, int]) -> QualityTable:
    """A table of ``name=(right, seen)``."""
    table = QualityTable()
    for name, (right, seen) in accuracies.items():
        for index in range(seen):
            table.observe(name, "", index < right)
    return table


@pytest.mark.parametrize(
    ("wanted", "chosen", "why"),
    [
        (Wanted(capabilities=frozenset({"tools"})), "large", "lacks tools"),
        (Wanted(tokens=10_000), "large", "context holds 8000 tokens"),
        (Wanted(max_price=0.5), "small", "costs 1"),
        (Wanted(max_latency=1.0), "small", "takes 2 s"),
    ],
)
def test_who_cannot_take_the_task_is_left_out_and_the_receipt_says_why(
    wanted: Wanted, chosen: str, why: str
) -> None:
    choice = Router().choose([SMALL, LARGE], wanted)

    assert choice.name == chosen
    assert any(why in one.why for one in choice.considered if one.score is None)


def test_an_unknown_price_is_not_a_low_one() -> None:
    choice = Router().choose([ODD], Wanted(max_price=100.0))
    assert choice.name is None
    assert choice.reason == "no member can take the task"
    assert choice.considered[0].why == "its price is unknown"

    router = Router(Policy(price_weight=1.0), known(odd=(60, 100), large=(60, 100)))
    assert router.choose([ODD, LARGE]).order == ("odd", "large")
    assert router.choose([LARGE, ODD]).name == "large"


def test_with_few_labels_the_best_single_member_is_kept_and_with_many_the_specialist_wins() -> None:
    table = QualityTable()
    router = Router(qualities=table)
    for index in range(400):
        table.observe("large", "law", index % 10 < 7)
        table.observe("small", "law", index % 10 < 3)
    both = [SMALL, LARGE]
    for index in range(5):
        table.observe("small", "maths", True)
        table.observe("large", "maths", index < 2)
    assert router.choose(both, Wanted(subject="maths")).name == "large"

    for index in range(200):
        table.observe("small", "maths", index % 10 < 9)
        table.observe("large", "maths", index % 10 < 4)
    choice = router.choose(both, Wanted(subject="maths"))
    assert (choice.name, choice.reason) == ("small", "better than large for maths")
    assert router.choose(both, Wanted(subject="law")).name == "large"


@pytest.mark.parametrize("labels", [0, 5, 20, 50, 100, 200])
def test_it_is_never_worse_than_the_best_single_member_however_few_the_labels(labels: int) -> None:
    gains = [gain_of_routing(labels, seed) for seed in range(10)]

    assert sum(gains) / len(gains) >= -0.005
    if labels == 200:
        assert sum(gains) / len(gains) >= 0.01


def gain_of_routing(labels: int, seed: int) -> float:
    """By how much routing by 14 subjects beats the member that is the best one overall."""
    chance = random.Random(seed)
    subjects = [f"s{index}" for index in range(14)]
    base = {"one": 0.717, "two": 0.658, "three": 0.649, "four": 0.639}
    truth = {
        (name, subject): min(0.95, max(0.2, rate + chance.gauss(0, 0.07)))
        for name, rate in base.items()
        for subject in subjects
    }
    overall = {name: sum(truth[name, subject] for subject in subjects) for name in base}
    best = max(base, key=lambda name: overall[name])
    table = QualityTable()
    for (name, subject), rate in truth.items():
        for _ in range(labels):
            table.observe(name, subject, chance.random() < rate)
    router = Router(Policy(default=best), table)
    candidates = [Candidate(name=name) for name in base]
    chosen = {s: router.choose(candidates, Wanted(subject=s)).name or "" for s in subjects}
    return (sum(truth[chosen[s], s] for s in subjects) - overall[best]) / len(subjects)


def test_the_cheapest_within_a_margin_is_taken_once_it_is_known_to_be_near() -> None:
    policy = Policy(within=0.1)
    assert (
        Router(policy, known(small=(4, 6), large=(14, 20))).choose([SMALL, LARGE]).name == "large"
    )
    choice = Router(policy, known(small=(680, 1000), large=(700, 1000))).choose([SMALL, LARGE])
    assert (choice.name, choice.reason) == ("small", "cheapest within 10% of large")


def test_price_latency_load_and_success_count_as_the_policy_says() -> None:
    table = known(small=(65, 100), large=(70, 100))
    for policy in (Policy(price_weight=0.5), Policy(latency_weight=0.2)):
        assert Router(policy, table).choose([SMALL, LARGE]).name == "small"
    full = Candidate(name="large", load=1.5)
    assert Router(Policy(load_weight=0.3), table).choose([SMALL, full]).name == "small"
    failing = Candidate(name="large", success=0.5)
    assert Router(Policy(), table).choose([SMALL, failing]).name == "small"


def test_a_context_stays_where_it_is_as_long_as_that_member_can_take_it() -> None:
    router = Router(qualities=known(small=(50, 100), large=(70, 100)))
    first = router.choose([SMALL, LARGE], context="c")
    router.qualities = known(small=(90, 100), large=(10, 100))
    again = router.choose([SMALL, LARGE], context="c")

    assert (first.name, again.name) == ("large", "large")
    assert again.reason == "the context is with it already"
    down = Candidate(name="large", healthy=False)
    assert router.choose([SMALL, down], context="c").name == "small"
    assert router.choose([SMALL, LARGE], context="c").name == "small"


def test_a_canary_gets_its_part_and_not_more() -> None:
    canary = Candidate(name="canary", canary=0.1)
    router = Router(qualities=known(large=(70, 100), canary=(90, 100)))
    draws = [index / 1000 for index in range(1000)]

    chosen = Counter(router.choose([LARGE, canary], draw=draw).name for draw in draws)

    assert chosen == {"canary": 100, "large": 900}
    assert "canary" in router.choose([LARGE, canary], draw=0.05).reason
