"""What is learned about members: weights, who may vote, and how sure a verdict is."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_agents.ensembles.admission import (
    Labelled,
    admit,
    choose_pool,
    vote_accuracy,
    voting_weights,
)
from dragoman_agents.ensembles.calibration import (
    Calibrator,
    Step,
    calibration_error,
    coverage_at,
    threshold_for,
)
from dragoman_agents.ensembles.reputation import Reputation, accuracy_weight
from dragoman_agents.ensembles.votes import Verdict, Vote, Voter
from tests.support.simulated_members import CHOICES, WRONG_FOR_SURE, questions, skill_for

COMPARABLE = {"one": 0.717, "two": 0.658, "three": 0.649, "four": 0.639}
WEAK = {"five": 0.56, "six": 0.5, "seven": 0.45, "eight": 0.42, "nine": 0.4, "ten": 0.36,
        "eleven": 0.33, "twelve": 0.3, "thirteen": 0.25, "fourteen": 0.2}  # fmt: skip
EQUAL = dict.fromkeys(COMPARABLE, 1.0)


def asked(accuracies: Mapping[str, float], count: int, seed: int = 1) -> list[Labelled]:
    return questions({name: skill_for(rate) for name, rate in accuracies.items()}, count, seed)


def single(labelled: Sequence[Labelled], member: str) -> float:
    return vote_accuracy(labelled, {member: 1.0})


def learned(labelled: Sequence[Labelled], choices: int = CHOICES) -> Reputation:
    reputation = Reputation(choices=choices)
    for question in labelled:
        reputation.observe_labelled(question.answers, question.truth)
    return reputation


def verdict_of(question: Labelled, weights: Mapping[str, float]) -> Verdict:
    vote = Vote(Voter(name, weight) for name, weight in weights.items())
    for name in weights:
        vote.cast(name, question.answers[name])
    return vote.verdict()


def test_weights_grow_with_accuracy_and_end_at_chance() -> None:
    assert accuracy_weight(0.5) == 0
    assert accuracy_weight(0.1, choices=10) == 0
    assert accuracy_weight(0.3, choices=10) > 0
    assert accuracy_weight(0.7) < accuracy_weight(0.8) < accuracy_weight(1.0) < 10


@given(st.lists(st.booleans(), max_size=200))
def test_an_accuracy_stays_between_nothing_and_certainty(results: list[bool]) -> None:
    reputation = Reputation()
    for result in results:
        reputation.observe("a", result)

    assert 0 < reputation.accuracy("a") < 1
    assert 0 <= reputation.weight("a") < 10


def test_a_memory_that_forgets_follows_a_model_that_changed() -> None:
    keeps, forgets = Reputation(), Reputation(memory=0.98)
    for index in range(600):
        for reputation in (keeps, forgets):
            reputation.observe("a", index < 400)

    assert forgets.accuracy("a") < 0.2 < 0.5 < keeps.accuracy("a")


def test_when_nobody_is_better_than_chance_all_weigh_the_same() -> None:
    reputation = Reputation()
    for _ in range(50):
        reputation.observe("a", False)
        reputation.observe("b", False)

    assert reputation.weights(["a", "b"]) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_member_that_is_always_wrong_loses_its_weight(labels: bool, seed: int) -> None:
    skills = {name: skill_for(rate) for name, rate in COMPARABLE.items()}
    train = questions(skills | {"liar": WRONG_FOR_SURE}, 200, seed)
    test = questions(skills | {"liar": WRONG_FOR_SURE}, 4000, seed + 100)
    best = max(single(test, name) for name in COMPARABLE)

    honest = vote_accuracy(test, weights_from(train, list(COMPARABLE), labels))
    weights = weights_from(train, [*COMPARABLE, "liar"], labels)

    assert weights["liar"] == 0 < min(weights[name] for name in COMPARABLE)
    assert honest > best
    assert vote_accuracy(test, weights) - best >= 0.8 * (honest - best)


def weights_from(
    labelled: Sequence[Labelled], members: Sequence[str], labels: bool
) -> dict[str, float]:
    reputation = Reputation(choices=CHOICES)
    for question in labelled:
        answers = {name: question.answers[name] for name in members}
        if labels:
            reputation.observe_labelled(answers, question.truth)
        else:
            reputation.observe_consensus(answers)
    return voting_weights(reputation, members)


def test_of_two_members_that_differ_neither_is_blamed() -> None:
    reputation = Reputation()
    reputation.observe_consensus({"a": 1, "b": 2})
    assert reputation.accuracy("a") == reputation.prior


def test_members_far_below_the_best_are_not_admitted() -> None:
    reputation = learned(asked(COMPARABLE | WEAK, 2000))

    admitted = admit(reputation, list(COMPARABLE | WEAK))

    assert admitted[0] == "one"
    assert set(admitted) == set(COMPARABLE)
    assert "new" in admit(reputation, ["one", "new"])
    assert admit(reputation, ["fourteen"]) == ("fourteen",)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_chosen_pool_gains_and_whatever_joins_never_costs_half_a_point(seed: int) -> None:
    everybody = COMPARABLE | WEAK
    train, test = asked(everybody, 3000, seed), asked(everybody, 6000, seed + 50)
    weights = {name: learned(train).weight(name) for name in everybody}
    best = max(single(test, name) for name in everybody)

    for joining in (COMPARABLE, everybody, {"one": 0.717} | WEAK):
        pool = choose_pool(train, {name: weights[name] for name in joining})
        reached = vote_accuracy(test, {name: weights[name] for name in pool})
        assert reached >= best - 0.005
        if joining is COMPARABLE:
            assert len(pool) >= 3
            assert reached >= best + 0.005
    assert vote_accuracy(test, dict.fromkeys(everybody, 1.0)) < best - 0.005


def test_a_pool_of_one_is_chosen_when_nobody_helps() -> None:
    train = asked({"good": 0.9, "poor": 0.3, "worse": 0.2}, 500)
    assert choose_pool(train, {"good": 3.0, "poor": 1.0, "worse": 0.5}) == ("good",)
    with pytest.raises(ValueError, match="needs members"):
        choose_pool([], {"a": 1.0})


def test_confidence_from_agreement_is_calibrated_and_rises() -> None:
    train, test = asked(COMPARABLE, 3000, 1), asked(COMPARABLE, 6000, 2)
    told = [(verdict_of(question, EQUAL), question) for question in train]
    calibrator = Calibrator.fit(
        [verdict.share for verdict, _ in told],
        [verdict.value == question.truth for verdict, question in told],
    )

    verdicts = [verdict_of(question, EQUAL) for question in test]
    confidences = [calibrator.confidence(verdict.share) for verdict in verdicts]
    correct = [v.value == question.truth for v, question in zip(verdicts, test, strict=True)]

    assert calibration_error(confidences, correct) <= 0.05
    steps = [step.confidence for step in calibrator.steps]
    assert steps == sorted(steps)
    sure = calibrator.share_for(0.88)
    assert sure is not None
    precision, coverage = coverage_at([verdict.share for verdict in verdicts], correct, sure)
    assert precision >= 0.88
    assert coverage >= 0.4
    assert calibrator.share_for(0.999) is None


@given(st.lists(st.tuples(st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.booleans()), min_size=1))
def test_confidence_never_falls_with_agreement(told: list[tuple[float, bool]]) -> None:
    calibrator = Calibrator.fit([score for score, _ in told], [right for _, right in told])

    confidences = [calibrator.confidence(score) for score in (0.0, 0.25, 0.5, 0.75, 1.0)]

    assert confidences == sorted(confidences)
    assert all(0 <= confidence <= 1 for confidence in confidences)


def test_scores_that_are_all_different_do_not_blur_what_is_known_of_them() -> None:
    scores = [index / 2000 for index in range(2000)]
    chance = random.Random(1)
    correct = [chance.random() < score for score in scores]

    calibrator = Calibrator.fit(scores, correct)

    for score in (0.1, 0.5, 0.9):
        assert calibrator.confidence(score) == pytest.approx(score, abs=0.07)


def test_a_threshold_counts_all_that_is_above_it_together() -> None:
    scores = [0.9, 0.8, 0.8, 0.5, 0.4, 0.3]
    correct = [True, True, False, True, False, False]
    assert threshold_for(0.75, scores, correct) == 0.5
    assert threshold_for(0.9, scores, correct) == 0.9
    assert threshold_for(0.5, scores, correct) == 0.3
    assert threshold_for(0.5, [0.2], [False]) is None


def test_a_calibrator_needs_something_to_learn_from() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Calibrator.fit([], [])
    with pytest.raises(ValueError, match="in order"):
        Calibrator([Step(0.5, 0.5, 1), Step(0.2, 0.2, 1)])
    assert calibration_error([], []) == 0
    assert coverage_at([0.1], [True], 0.5) == (0.0, 0.0)
