"""Budgets: what is reserved cannot be spent twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_agents.ensembles.budgets import Amount, Budget, BudgetExceeded


def test_calls_side_by_side_stay_within_the_limit_together() -> None:
    budget = Budget(max_tokens=100, max_money=1.0)
    first = budget.reserve("a", Amount(60, 0.6))
    with pytest.raises(BudgetExceeded, match="b may cost 0.5, and 0.4 is left"):
        budget.reserve("b", Amount(10, 0.5))
    with pytest.raises(BudgetExceeded, match="tokens"):
        budget.reserve("b", Amount(50, 0.1))

    budget.settle(first, Amount(10, 0.1))

    assert (budget.left_tokens, budget.left_money) == (90, 0.9)
    budget.reserve("b", Amount(50, 0.5))


def test_the_one_that_really_ran_is_charged() -> None:
    budget = Budget(max_money=1.0)
    made = budget.reserve("free", Amount(10, 0.0))
    budget.settle(made, Amount(10, 0.7), served_by="paid")

    assert budget.ledger["paid"].money == 0.7
    assert "free" not in budget.ledger
    with pytest.raises(BudgetExceeded):
        budget.reserve("paid", Amount(10, 0.4))


def test_a_member_of_unknown_price_is_not_asked_when_money_is_limited() -> None:
    with pytest.raises(BudgetExceeded, match="price of odd is unknown"):
        Budget(max_money=1.0).reserve("odd", Amount(10, None))
    Budget(max_tokens=10).reserve("odd", Amount(10, None))
    Budget(max_money=1.0, unknown_price="allow").reserve("odd", Amount(10, None))


def test_what_nobody_reports_is_charged_as_reserved_and_what_never_ran_is_free() -> None:
    budget = Budget(max_tokens=100, max_money=1.0)
    budget.settle(budget.reserve("a", Amount(40, 0.4)), Amount(None, None))
    never = budget.reserve("a", Amount(40, 0.4))
    budget.settle(never, None)
    budget.settle(never, Amount(40, 0.4))

    assert (budget.left_tokens, budget.left_money) == (60, 0.6)
    entry = budget.ledger["a"]
    assert (entry.calls, entry.unknown_calls) == (1, 1)


def test_an_estimate_that_was_too_low_is_noticed() -> None:
    budget = Budget(max_tokens=100)
    budget.settle(budget.reserve("a", Amount(10)), Amount(150, 0.0))
    assert budget.exceeded
    assert budget.left_tokens == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 100), st.booleans(), st.booleans()),
        max_size=30,
    )
)
def test_with_honest_estimates_the_limit_is_never_passed(
    calls: list[tuple[int, int, bool, bool]],
) -> None:
    budget = Budget(max_tokens=100, max_money=10.0)
    waiting = []
    for tokens, share, settle_now, runs in calls:
        try:
            made = budget.reserve("a", Amount(tokens, tokens / 10))
        except BudgetExceeded:
            continue
        used = Amount(tokens * share // 100, tokens / 10 * share / 100) if runs else None
        if settle_now:
            budget.settle(made, used)
        else:
            waiting.append((made, used))
        assert not budget.exceeded
    for made, used in waiting:
        budget.settle(made, used)
    assert not budget.exceeded
    assert budget.left_tokens == 100 - budget.ledger["a"].tokens
