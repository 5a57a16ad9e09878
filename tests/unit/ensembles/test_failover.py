"""Failover: whom to ask next, by the kind of failure, and never for money nobody allowed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_agents.ensembles.failover import (
    Ask,
    FailoverRun,
    Fallback,
    GiveUp,
    Target,
    Wait,
    may_fall_back,
)
from dragoman_agents.ensembles.health import HealthBook, blame_for

FIRST, SECOND, THIRD = Target("first", 1.0), Target("second", 1.0), Target("third", 0.0)


def asks(step: object) -> str:
    assert isinstance(step, Ask), step
    return step.target


@pytest.mark.parametrize(
    ("policy", "price", "allowed"),
    [
        ("none", 0.0, False),
        ("same_price", 1.0, True),
        ("same_price", 0.5, True),
        ("same_price", 1.1, False),
        ("same_price", None, False),
        ("free_only", 0.0, True),
        ("free_only", 0.01, False),
        ("free_only", None, False),
        ("any", 99.0, True),
        ("any", None, True),
    ],
)
def test_a_fallback_costs_what_is_allowed(
    policy: Fallback, price: float | None, allowed: bool
) -> None:
    assert may_fall_back(policy, FIRST, Target("other", price)) is allowed


def test_an_unknown_first_price_is_the_same_as_no_other() -> None:
    assert not may_fall_back("same_price", Target("first"), Target("other", 0.5))


def test_the_next_is_asked_when_one_fails_and_the_trail_is_kept() -> None:
    run = FailoverRun([FIRST, SECOND], HealthBook())
    assert asks(run.next(0.0)) == "first"
    run.started("first", 0.0)
    assert run.next(0.5) == Wait(None)
    run.failed("first", "MODEL_OVERLOADED", 1.0)

    step = run.next(1.0)

    assert step == Ask("second", "first failed: MODEL_OVERLOADED")
    run.started("second", 1.0)
    run.succeeded("second", 1.5)
    assert [(one.target, one.code, one.seconds) for one in run.attempts] == [
        ("first", "MODEL_OVERLOADED", 1.0),
        ("second", None, 0.5),
    ]


def test_cooldown_is_shared_by_all_tasks_and_grows() -> None:
    book = HealthBook(patience=0, first_cooldown=5)
    for moment, cool in ((0.0, 5.0), (5.0, 10.0), (15.0, 20.0)):
        run = FailoverRun([FIRST, SECOND], book)
        assert asks(run.next(moment)) == "first"
        run.started("first", moment)
        run.failed("first", "MODEL_UNREACHABLE", moment)
        assert book.recovers_in("first", moment) == cool
        other = FailoverRun([FIRST, SECOND], book).next(moment + cool - 0.1)
        assert other == Ask("second", "first cools down: MODEL_UNREACHABLE")
    book.succeeded("first", 1.0)
    assert not book.is_cooling("first", 15.1)


@pytest.mark.parametrize(
    ("code", "retry_after", "cooldown"),
    [
        ("MODEL_RATE_LIMITED", 7.0, 7.0),
        ("MODEL_OVERLOADED", None, 0.0),
        ("MODEL_QUOTA", None, 300.0),
        ("MODEL_AUTH", 1.0, 300.0),
        ("MODEL_REFUSED", None, 0.0),
        ("DEADLINE_EXCEEDED", None, 0.0),
        ("CANCELED", None, 0.0),
    ],
)
def test_the_kind_of_failure_decides_the_cooldown(
    code: str, retry_after: float | None, cooldown: float
) -> None:
    book = HealthBook()
    book.failed("a", code, 100.0, retry_after)
    assert book.recovers_in("a", 100.0) == cooldown


def test_a_caller_in_a_hurry_and_a_bad_input_are_not_taken_elsewhere() -> None:
    for code in ("DEADLINE_EXCEEDED", "INVALID_INPUT", "LIMIT_EXCEEDED"):
        run = FailoverRun([FIRST, SECOND], HealthBook())
        run.started("first", 0.0)
        run.failed("first", code, 1.0)
        step = run.next(1.0)
        assert isinstance(step, GiveUp)
        assert step.code == code
    assert blame_for("MODEL_REFUSED") == "request"


def test_what_one_model_refuses_another_may_do_and_the_first_is_not_asked_again() -> None:
    run = FailoverRun([FIRST, SECOND], HealthBook())
    run.started("first", 0.0)
    run.failed("first", "MODEL_REFUSED", 0.0)
    assert asks(run.next(0.0)) == "second"
    run.started("second", 0.0)
    run.failed("second", "MODEL_CONTEXT_LENGTH", 0.0)
    assert isinstance(run.next(10.0), GiveUp)


def test_when_all_cool_down_the_one_that_recovers_first_is_a_last_resort() -> None:
    book = HealthBook()
    book.failed("first", "MODEL_RATE_LIMITED", 0.0, 60)
    book.failed("second", "MODEL_RATE_LIMITED", 0.0, 30)

    assert asks(FailoverRun([FIRST, SECOND], book).next(0.0)) == "second"


def test_giving_up_says_when_to_come_back_and_what_was_not_allowed() -> None:
    run = FailoverRun([FIRST, Target("dear", 5.0)], HealthBook(), attempts_per_target=1)
    run.started("first", 0.0)
    run.failed("first", "MODEL_RATE_LIMITED", 0.0, 12)

    step = run.next(0.0)

    assert isinstance(step, GiveUp)
    assert step.retry_after == 12
    assert "dear" in step.why


def test_a_second_is_asked_beside_a_slow_first_once_and_only_if_allowed() -> None:
    book = HealthBook()
    for _ in range(20):
        book.succeeded("first", 1.0)
    run = FailoverRun([FIRST, SECOND, THIRD], book, hedge_percentile=0.95)
    run.started("first", 0.0)
    assert run.next(0.4) == Wait(0.6)
    step = run.next(1.0)
    assert isinstance(step, Ask)
    assert (step.target, step.hedge) == ("second", True)
    run.started("second", 1.0)
    assert run.next(5.0) == Wait(None)
    assert run.running == ("first", "second")

    alone = FailoverRun([FIRST, SECOND], book, hedge_percentile=0.95, fallback="none")
    alone.started("first", 0.0)
    assert alone.next(9.0) == Wait(None)


@pytest.mark.parametrize("seed", range(4))
def test_one_down_and_one_at_twenty_percent_errors_does_not_fail_within_the_deadline(
    seed: int,
) -> None:
    chance = random.Random(seed)
    book = HealthBook()
    now, failed = 0.0, 0
    for _ in range(1000):
        now += 0.05
        began, deadline = now, now + 10.0
        run = FailoverRun(
            [Target("down", 1.0), Target("shaky", 1.0), Target("dear", 9.0)],
            book,
            deadline=deadline,
        )
        while True:
            step = run.next(now)
            if isinstance(step, GiveUp) or now > deadline:
                failed += 1
                break
            if isinstance(step, Wait):
                assert step.seconds is not None
                now += step.seconds
                continue
            assert step.target != "dear"
            run.started(step.target, now)
            now += 0.2
            if step.target == "down":
                run.failed("down", "MODEL_UNREACHABLE", now)
            elif chance.random() < 0.2:
                run.failed("shaky", "MODEL_OVERLOADED", now)
            else:
                run.succeeded("shaky", now)
                break
        assert now - began <= 10.0
    assert failed == 0


@given(
    st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.floats(0, 3)))),
    st.sampled_from(["none", "same_price", "free_only"]),
    st.randoms(use_true_random=False),
)
def test_no_target_beyond_the_permission_is_ever_asked(
    others: list[tuple[int, float | None]], policy: Fallback, chance: random.Random
) -> None:
    targets = [FIRST, *(Target(f"t{index}", price) for index, (_, price) in enumerate(others))]
    prices = {target.name: target.price for target in targets}
    run = FailoverRun(targets, HealthBook(), fallback=policy, attempts_per_target=2)
    now, asked = 0.0, 0
    while not isinstance(step := run.next(now), GiveUp):
        if isinstance(step, Wait):
            now += 1000.0 if step.seconds is None else step.seconds
            continue
        asked += 1
        assert asked <= 2 * len(targets)
        price = prices[step.target]
        assert step.target == "first" or (price is not None and price <= 1.0)
        run.started(step.target, now)
        run.failed(
            step.target, chance.choice(["MODEL_TIMEOUT", "MODEL_QUOTA", "SKILL_FAILED"]), now
        )
    assert asked >= 1


def test_who_has_no_room_is_asked_again_and_loses_no_attempt() -> None:
    book = HealthBook()
    run = FailoverRun([FIRST, SECOND], book, attempts_per_target=1, deadline=100.0)
    for now in (0.0, 10.0, 20.0):
        for target in ("first", "second"):
            step = run.next(now)
            assert asks(step) == target
            run.started(target, now)
            run.busy(target, "OVERLOADED", now, 1.0)
        # Both are full: the one that is free first is waited for.
        assert run.next(now) == Wait(1.0)
    assert len(run.attempts) == 2
    assert book.members == {}

    assert run.next(30.0) == Ask("first", "second has no room")
    run.started("first", 30.0)
    run.failed("first", "SKILL_FAILED", 31.0)
    assert asks(run.next(31.0)) == "second"
    run.started("second", 31.0)
    run.failed("second", "SKILL_FAILED", 32.0)
    assert isinstance(run.next(32.0), GiveUp)
