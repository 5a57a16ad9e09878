"""Judges without position bias, and long inputs in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_agents.ensembles.judging import Comparison, Panel, Preference, panel_score
from dragoman_agents.ensembles.map_reduce import reduce_rounds, split_text, step_groups

GOOD = {"a": 3, "b": 2, "c": 1}


def fair(comparison: Comparison) -> Preference:
    return "first" if GOOD[comparison.first] > GOOD[comparison.second] else "second"


def test_each_pair_is_read_in_both_orders_by_every_judge() -> None:
    panel = Panel(["j", "k"], ["a", "b", "c"])

    asked = panel.comparisons()

    assert len(asked) == len(set(asked)) == 2 * 3 * 2
    assert Comparison("k", "c", "a") in asked


def test_a_judge_that_prefers_what_it_reads_first_decides_nothing_and_is_seen() -> None:
    panel = Panel(["biased", "fair"], ["c", "a", "b"])
    for comparison in panel.comparisons():
        panel.record(comparison, "first" if comparison.judge == "biased" else fair(comparison))

    ranking = panel.ranking()

    assert ranking.order == ("a", "b", "c")
    assert not ranking.tied
    assert ranking.inconsistent == {"biased": 1.0, "fair": 0.0}
    assert ranking.points == {"a": 3.0, "b": 2.0, "c": 1.0}


def test_nobody_judges_its_own_answer() -> None:
    panel = Panel(["a", "judge", "twin"], ["a", "b"], own={"twin": frozenset({"b"})})
    assert {one.judge for one in panel.comparisons()} == {"judge"}


def test_a_pair_counts_once_both_orders_are_in_and_equals_keep_their_order() -> None:
    panel = Panel(["j"], ["a", "b"])
    panel.record(Comparison("j", "a", "b"), "second")
    assert panel.ranking().points == {"a": 0, "b": 0}
    assert panel.ranking().tied
    panel.record(Comparison("j", "b", "a"), "tie")
    assert panel.ranking().points == {"a": 0.25, "b": 0.75}


def test_a_panel_score_is_the_median_which_one_judge_cannot_move() -> None:
    assert panel_score({"a": 7, "b": 8, "c": 0}) == 7
    assert panel_score({"a": 7}, least=2) is None


@given(st.text(max_size=400), st.integers(4, 60), st.integers(0, 2))
def test_pieces_fit_and_hold_the_whole_text_in_order(text: str, size: int, overlap: int) -> None:
    pieces = split_text(text, size, overlap=overlap)

    assert all(len(piece) <= size for piece in pieces)
    if overlap == 0:
        assert "".join("".join(pieces).split()) == "".join(text.split())
    at = 0
    for piece in pieces:
        at = text.find(piece, max(0, at - overlap))
        assert at >= 0


def test_pieces_end_where_the_text_does() -> None:
    text = "One is here. Two is here.\n\nThree is a new one. Four."
    assert split_text(text, 30) == ["One is here. Two is here.\n\n", "Three is a new one. Four."]
    assert split_text("   \n ", 3) == []
    assert split_text("x" * 10, 4) == ["xxxx", "xxxx", "xx"]
    with pytest.raises(ValueError, match="at most half"):
        split_text("x", 4, overlap=3)


@given(st.integers(0, 200), st.integers(2, 9))
def test_a_tree_takes_neighbours_only_and_ends_in_one(count: int, fan_in: int) -> None:
    groups = step_groups(range(count), fan_in)

    assert [item for group in groups for item in group] == list(range(count))
    assert all(1 <= len(group) <= fan_in for group in groups)
    sizes = {len(group) for group in groups}
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    rounds = reduce_rounds(count, fan_in)
    assert fan_in**rounds >= count
    assert rounds == 0 or fan_in ** (rounds - 1) < count
