"""When two answers say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_agents.ensembles.agreement import (
    Agreement,
    Exact,
    Judged,
    NormalizedText,
    NumericTolerance,
    RoundedNumber,
    SchemaField,
    Similarity,
    group,
)


@pytest.mark.parametrize(
    ("agreement", "first", "second", "same"),
    [
        (Exact(), {"a": 1, "b": [2]}, {"b": [2], "a": 1.0}, True),
        (Exact(), "Paris", "paris", False),
        (NormalizedText(), " The  ANSWER: Paris. ", "the answer paris", True),
        (NormalizedText(), "\uff50aris", "Paris!", True),
        (NormalizedText(("the",)), "the Seine", "Seine", True),
        (NormalizedText(), "-5", "5", False),
        (NormalizedText(), "50%", "50", False),
        (SchemaField("verdict.label"), {"verdict": {"label": "a", "n": 1}},
         {"verdict": {"label": "a", "n": 2}}, True),
        (SchemaField("items.0", NormalizedText()), {"items": ["A"]}, {"items": ["a", 3]}, True),
        (RoundedNumber(0.1), 1.02, "0.98", True),
        (NumericTolerance(absolute=0.1), "1,000", 1000.05, True),
        (NumericTolerance(relative=0.01), 100, 102, False),
        (Similarity(lambda a, b: 1 - abs(len(a) - len(b)) / 10, 0.9), "abc", "abcd", True),
    ],
)  # fmt: skip
def test_answers_agree_as_the_way_says(
    agreement: Agreement, first: object, second: object, same: bool
) -> None:
    assert agreement.usable(first)
    assert agreement.usable(second)
    assert agreement.agree(first, second) is same
    assert agreement.agree(second, first) is same


@pytest.mark.parametrize(
    ("agreement", "value"),
    [
        (Exact(), None),
        (NormalizedText(), "…"),
        (NormalizedText(), None),
        (SchemaField("label"), {"other": 1}),
        (SchemaField("label"), "text"),
        (NumericTolerance(absolute=1), "many"),
        (NumericTolerance(absolute=1), True),
        (RoundedNumber(1), float("nan")),
    ],
)
def test_an_answer_that_cannot_be_compared_is_none(agreement: Agreement, value: object) -> None:
    assert not agreement.usable(value)
    assert group([value, value], agreement) == []


def test_groups_hold_indexes_and_keep_order() -> None:
    assert group(["b", "a", "B", None, "c", "A."], NormalizedText()) == [[0, 2], [1, 5], [4]]
    assert group([1.0, 1.2, 1.09], NumericTolerance(absolute=0.1)) == [[0, 2], [1]]


def test_a_judge_is_asked_each_pair_once_and_equal_answers_not_at_all() -> None:
    judged = Judged()
    answers = ["four", "4", "four", "five"]

    pairs = judged.open_pairs(answers)

    assert pairs == [("four", "4"), ("four", "five"), ("4", "five")]
    judged.record("4", "four", True)
    judged.record("four", "five", False)
    assert judged.open_pairs(answers) == [("4", "five")]
    assert group(answers, judged) == [[0, 1, 2], [3]]


@given(st.lists(st.text("abAB .!", max_size=3), max_size=8), st.randoms())
def test_classes_of_a_transitive_way_do_not_depend_on_order(
    values: list[str], chance: object
) -> None:
    agreement = NormalizedText()
    order = list(range(len(values)))
    chance.shuffle(order)  # type: ignore[attr-defined]

    there = {frozenset(members) for members in group(values, agreement)}
    back = {
        frozenset(order[index] for index in members)
        for members in group([values[index] for index in order], agreement)
    }

    assert there == back


def test_a_grid_has_a_step_and_a_tolerance_a_size() -> None:
    with pytest.raises(ValueError, match="above 0"):
        RoundedNumber(0)
    with pytest.raises(ValueError, match="at least 0"):
        NumericTolerance(absolute=-1)
