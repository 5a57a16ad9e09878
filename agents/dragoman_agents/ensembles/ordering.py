"""In what order to ask members so that a vote is decided for the least money.

The verdict is the same in every order; what it costs is not. Labelled or not, past answers show how
often each order would have been decided after how many members.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence

__all__ = ["ask_order", "expected_price"]

MOST_QUESTIONS = 400
"""More past questions than this do not change an order, they only take time."""
LARGEST_SEARCH = 7
"""Up to so many members all pairs are tried for a swap; beyond, neighbours only."""

Answers = Mapping[str, Hashable]
Weigh = Callable[[int], Mapping[str, float]]


def ask_order(
    answers: Sequence[Answers], weigh: Weigh, prices: Mapping[str, float]
) -> tuple[str, ...]:
    """The members from the first to be asked to the last.

    Args:
        answers: What each member said to past questions; ``None`` for no answer.
        weigh: The weights of all members at the question with this index.
        prices: What asking each member costs on average; its members are those to be ordered.
    """
    asked = answers[:MOST_QUESTIONS]
    weights = [weigh(index) for index in range(len(asked))]
    average = {
        member: sum(one.get(member, 0.0) for one in weights) / max(1, len(weights))
        for member in prices
    }
    order = sorted(prices, key=lambda member: -average[member])
    found = _price(order, asked, weights, prices)
    reach = len(order) if len(order) <= LARGEST_SEARCH else 2
    while True:
        better = None
        for first, second in itertools.combinations(range(len(order)), 2):
            if second - first >= reach:
                continue
            tried = list(order)
            tried[first], tried[second] = tried[second], tried[first]
            price = _price(tried, asked, weights, prices)
            if price < found - 1e-12:
                better, found = tried, price
        if better is None:
            return tuple(order)
        order = better


def expected_price(
    order: Sequence[str], answers: Sequence[Answers], weigh: Weigh, prices: Mapping[str, float]
) -> float:
    """What a vote in this order would have cost per question, stopped as soon as it was decided."""
    weights = [weigh(index) for index in range(len(answers))]
    return _price(order, answers, weights, prices) / max(1, len(answers))


def _price(
    order: Sequence[str],
    answers: Sequence[Answers],
    weights: Sequence[Mapping[str, float]],
    prices: Mapping[str, float],
) -> float:
    total = 0.0
    for said, weight in zip(answers, weights, strict=True):
        left = sum(weight.get(member, 0.0) for member in order)
        votes: dict[Hashable, float] = {}
        for member in order:
            own = weight.get(member, 0.0)
            if not own:
                continue
            total += prices[member]
            left -= own
            answer = said.get(member)
            if answer is not None:
                votes[answer] = votes.get(answer, 0.0) + own
            first, second = _top_two(votes)
            if first - second > left:
                break
    return total


def _top_two(votes: Mapping[Hashable, float]) -> tuple[float, float]:
    first = second = 0.0
    for weight in votes.values():
        if weight > first:
            first, second = weight, first
        elif weight > second:
            second = weight
    return first, second
