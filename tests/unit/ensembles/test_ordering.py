"""The order in which members are asked changes what a vote costs, never what it says."""

from __future__ import annotations

import itertools

from dragoman_agents.ensembles.ordering import ask_order, expected_price
from dragoman_agents.ensembles.votes import Vote, Voter
from tests.support.simulated_members import questions, skill_for

PRICES = {"dear": 16.0, "quick": 1.0, "open": 10.0, "coder": 2.0, "old": 12.0}
RATES = {"dear": 0.72, "quick": 0.66, "open": 0.65, "coder": 0.64, "old": 0.54}
WEIGHTS = {"dear": 1.7, "quick": 0.8, "open": 0.9, "coder": 0.85, "old": 0.3}
ASKED = questions({name: skill_for(rate) for name, rate in RATES.items()}, 300, 1)
ANSWERS = [question.answers for question in ASKED]


def price(order: tuple[str, ...]) -> float:
    return expected_price(order, ANSWERS, lambda _: WEIGHTS, PRICES)


def test_no_other_order_is_much_cheaper() -> None:
    order = ask_order(ANSWERS, lambda _: WEIGHTS, PRICES)

    assert sorted(order) == sorted(PRICES)
    cheapest = min(price(other) for other in itertools.permutations(PRICES))
    assert price(order) <= cheapest * 1.02
    assert price(order) < 0.6 * sum(PRICES.values())


def test_the_expected_price_is_that_of_a_vote_that_stops_when_it_is_decided() -> None:
    order = ("quick", "dear", "coder", "open", "old")
    paid = 0.0
    for answers in ANSWERS:
        vote = Vote([Voter(name, weight) for name, weight in WEIGHTS.items()])
        while wave := vote.next_to_ask(order):
            for member in wave:
                vote.cast(member, answers[member])
                paid += PRICES[member]
    assert abs(price(order) - paid / len(ANSWERS)) < 1e-9


def test_a_member_without_weight_is_not_paid_for() -> None:
    weights = {"a": 1.0, "b": 0.0}
    order = ask_order([{"a": 1, "b": 2}], lambda _: weights, {"a": 1.0, "b": 5.0})
    assert expected_price(order, [{"a": 1, "b": 2}], lambda _: weights, {"a": 1, "b": 5}) == 1.0
    assert ask_order([], lambda _: weights, {"a": 1.0}) == ("a",)
