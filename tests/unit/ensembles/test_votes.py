"""Votes: who wins, who dissents, and when no further vote matters."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_agents.ensembles.agreement import NormalizedText, NumericTolerance
from dragoman_agents.ensembles.votes import Absence, Dissent, TieRule, Vote, Voter, VoteRule

ABSENT = "-"
FRESH = "new"

weights = st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.5, 2.0])
ties = st.sampled_from(["first_member", "abstain"])
rules = st.builds(
    lambda quorum, share, tie, confidence, backing: VoteRule(
        quorum=quorum,
        minimum_share=share,
        tie=tie,
        minimum_confidence=confidence,
        minimum_backing=backing,
        choices=6,
    ),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.4, 0.5, 2 / 3, 1.0]),
    ties,
    st.sampled_from([0.0, 0.0, 0.3, 0.5, 0.8]),
    st.sampled_from([0.0, 0.0, 0.3, 0.5, 0.8]),
)


@st.composite
def elections(draw: st.DrawFn) -> tuple[list[Voter], VoteRule, list[str]]:
    size = draw(st.integers(1, 5))
    voters = [Voter(f"m{index}", draw(weights)) for index in range(size)]
    answers = draw(st.lists(st.sampled_from(["a", "b", "c", ABSENT]), min_size=size, max_size=size))
    return voters, draw(rules), answers


def tell(vote: Vote, member: str, answer: str) -> None:
    if answer == ABSENT:
        vote.absent(member, "late")
    else:
        vote.cast(member, answer)


def outcome(vote: Vote) -> object:
    verdict = vote.verdict()
    return None if verdict.abstained else verdict.value


def full(voters: list[Voter], rule: VoteRule, answers: dict[str, str]) -> object:
    vote = Vote(voters, rule)
    for voter in voters:
        tell(vote, voter.member, answers[voter.member])
    return outcome(vote)


@settings(max_examples=300, deadline=None)
@given(elections(), st.randoms(use_true_random=False))
def test_an_early_stop_has_the_verdict_of_the_full_vote_in_every_order(
    election: tuple[list[Voter], VoteRule, list[str]], chance: random.Random
) -> None:
    voters, rule, given_answers = election
    answers = {voter.member: answer for voter, answer in zip(voters, given_answers, strict=True)}
    complete = full(voters, rule, answers)

    orders = list(itertools.permutations(answers))
    for order in orders if len(orders) <= 24 else chance.sample(orders, 24):
        vote = Vote(voters, rule)
        for member in order:
            if vote.decided:
                break
            tell(vote, member, answers[member])
        assert vote.decided
        assert outcome(vote) == complete


@settings(max_examples=300, deadline=None)
@given(elections(), st.integers(0, 5))
def test_it_stops_exactly_when_no_answer_that_may_come_changes_the_verdict(
    election: tuple[list[Voter], VoteRule, list[str]], heard: int
) -> None:
    voters, rule, answers = election
    vote = Vote(voters, rule)
    known: dict[str, str] = {}
    for voter, answer in list(zip(voters, answers, strict=True))[:heard]:
        tell(vote, voter.member, answer)
        known[voter.member] = answer
    missing = [voter.member for voter in voters if voter.member not in known]
    possible = [*sorted(set(known.values()) - {ABSENT}), FRESH, "newer", ABSENT]

    futures = {
        full(voters, rule, known | dict(zip(missing, rest, strict=True)))
        for rest in itertools.product(possible, repeat=len(missing))
    }

    assert vote.decided is (len(futures) == 1)


@settings(max_examples=300, deadline=None)
@given(elections(), st.randoms(use_true_random=False))
def test_nobody_is_asked_in_vain_and_the_verdict_is_that_of_the_full_vote(
    election: tuple[list[Voter], VoteRule, list[str]], chance: random.Random
) -> None:
    voters, rule, given_answers = election
    if chance.random() < 0.5:
        rule = VoteRule(tie=rule.tie, choices=rule.choices)
    answers = {voter.member: answer for voter, answer in zip(voters, given_answers, strict=True)}
    order = chance.sample(list(answers), len(answers))
    plain = VoteRule(tie=rule.tie, choices=rule.choices)
    vote = Vote(voters, rule)

    while wave := vote.next_to_ask(order):
        assert not vote.decided
        for member in wave:
            # Asking one by one would have asked this one too.
            assert not vote.decided or rule != plain
            tell(vote, member, answers[member])

    assert vote.decided
    assert outcome(vote) == full(voters, rule, answers)


def test_the_first_ones_asked_are_the_fewest_that_could_decide() -> None:
    vote = Vote([Voter(name) for name in "abcde"])
    assert vote.next_to_ask() == ("a", "b", "c")
    assert vote.next_to_ask(["e", "d"]) == ("e", "d", "a")

    for member, answer in [("a", "x"), ("b", "x"), ("c", "y")]:
        vote.cast(member, answer)
    assert vote.next_to_ask() == ("d",)
    vote.cast("d", "y")
    assert vote.next_to_ask() == ("e",)


def test_a_verdict_is_as_likely_right_as_its_members_log_odds_say() -> None:
    rule = VoteRule(choices=10, minimum_confidence=0.5)
    weight = math.log(0.8 * 9 / 0.2)  # of a member that is right in 80 % of ten choices
    vote = Vote([Voter("a", weight), Voter("b", weight), Voter("c", weight)], rule)
    vote.cast("a", "x")
    assert vote.verdict().confidence == pytest.approx(0.8)
    vote.cast("b", "y")
    verdict = vote.verdict()
    assert (verdict.abstained, verdict.reason) == (True, "low_confidence")
    vote.cast("c", "x")
    assert vote.verdict().value == "x"
    assert Vote([Voter("a")]).verdict().confidence is None
    with pytest.raises(ValueError, match="needs choices"):
        VoteRule(minimum_confidence=0.5)


def test_the_verdict_says_who_agrees_who_does_not_and_who_is_missing() -> None:
    vote = Vote(
        [Voter("a", 1, "gpt"), Voter("b", 2, "llama"), Voter("c", 1, "phi"), Voter("d", 1)],
        VoteRule(quorum=2),
        NormalizedText(),
    )
    vote.cast("c", "Rome")
    vote.cast("b", "Paris.")
    vote.absent("d", "AGENT_LOST")
    vote.cast("a", "paris")

    verdict = vote.verdict()

    assert (verdict.value, verdict.by) == ("Paris.", "b")
    assert verdict.support == ("a", "b")
    assert verdict.share == 0.75
    assert verdict.dissent == (Dissent("c", "Rome", 1, "phi"),)
    assert verdict.absent == (Absence("d", "AGENT_LOST"),)
    assert verdict.pending == ()


@pytest.mark.parametrize(("tie", "value"), [("first_member", "x"), ("abstain", None)])
def test_a_tie_is_broken_by_the_order_of_members_or_not_at_all(
    tie: TieRule, value: str | None
) -> None:
    vote = Vote([Voter("a"), Voter("b")], VoteRule(tie=tie))
    vote.cast("b", "y")
    vote.cast("a", "x")

    verdict = vote.verdict()

    assert verdict.value == value
    assert verdict.abstained is (value is None)
    assert verdict.reason == ("tie" if value is None else "agreed")


def test_it_abstains_below_the_share_and_below_the_quorum() -> None:
    for rule, reason in (
        (VoteRule(minimum_share=0.6), "low_share"),
        (VoteRule(quorum=3), "no_quorum"),
    ):
        vote = Vote([Voter("a"), Voter("b"), Voter("c"), Voter("d")], rule)
        for member, answer in zip("abcd", "xxyz", strict=True):
            vote.cast(member, answer)
        assert vote.verdict().reason == reason
        assert vote.verdict().share == 0.5
        assert len(vote.verdict().dissent) == 4


def test_a_member_without_weight_is_heard_and_does_not_count() -> None:
    vote = Vote([Voter("good", 1), Voter("bad", 0), Voter("odd", 0)], VoteRule())
    vote.cast("bad", "no")
    assert not vote.decided
    vote.cast("good", "yes")
    assert vote.decided
    vote.cast("odd", "yes")

    assert vote.verdict().value == "yes"
    assert vote.verdict().support == ("good", "odd")
    assert [one.member for one in vote.verdict().dissent] == ["bad"]


def test_a_way_that_is_not_transitive_waits_for_all_who_count() -> None:
    vote = Vote([Voter(name) for name in "abc"], VoteRule(), NumericTolerance(absolute=0.1))
    vote.cast("a", 1.0)
    vote.cast("b", 1.0)
    assert not vote.decided
    vote.absent("c", "late")
    assert vote.decided


def test_nobody_votes_twice_or_uninvited() -> None:
    vote = Vote([Voter("a")])
    vote.cast("a", 1)
    with pytest.raises(ValueError, match="already"):
        vote.absent("a", "late")
    with pytest.raises(ValueError, match="may not"):
        vote.cast("b", 1)
    with pytest.raises(ValueError, match="same name"):
        Vote([Voter("a"), Voter("a")])
    with pytest.raises(ValueError, match="weight"):
        Vote([Voter("a", float("inf"))])
