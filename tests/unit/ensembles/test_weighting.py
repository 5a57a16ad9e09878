"""Weights learned together: what members add to each other, and never less than the best one."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_agents.ensembles.admission import Labelled, vote_accuracy
from dragoman_agents.ensembles.fitting import climb, log_odds, logistic
from dragoman_agents.ensembles.weighting import JointWeights, fit_weights, posterior
from tests.support.simulated_members import CHOICES, WRONG_FOR_SURE, questions, skill_for

COMPARABLE = {"one": 0.717, "two": 0.658, "three": 0.649, "four": 0.639}
WEAK = {f"weak{index}": 0.5 - 0.06 * index for index in range(6)}
SKILLS = {name: skill_for(rate) for name, rate in (COMPARABLE | WEAK).items()}


def single(labelled: Sequence[Labelled], member: str) -> float:
    return vote_accuracy(labelled, {member: 1.0})


def test_the_climb_ends_at_the_top_and_above_the_floors() -> None:
    found = climb(lambda at: [2 - at[0], -3 - at[1]], [0.0, 0.0], floors=[0.0, 0.0], steps=200)
    assert found == pytest.approx([2.0, 0.0], abs=0.02)


@given(st.floats(0.001, 0.999))
def test_log_odds_and_probabilities_turn_into_each_other(probability: float) -> None:
    assert logistic(log_odds(probability)) == pytest.approx(probability)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_vote_gains_even_when_weak_members_join(seed: int) -> None:
    train, test = questions(SKILLS, 1500, seed), questions(SKILLS, 4000, seed + 50)
    best = max(single(test, name) for name in SKILLS)

    for members in (list(COMPARABLE), list(SKILLS)):
        weights = fit_weights(train, members, choices=CHOICES).weights()
        assert vote_accuracy(test, weights) > best + 0.005
    assert vote_accuracy(test, dict.fromkeys(SKILLS, 1.0)) < best


@pytest.mark.parametrize("labels", [0, 1, 10, 50, 200])
def test_with_few_labels_it_is_no_worse_than_the_member_that_looks_best(labels: int) -> None:
    test = questions(SKILLS, 3000, 99)
    for seed in range(3):
        train = questions(SKILLS, labels, seed)
        members = list(SKILLS)
        looks_best = max(members, key=lambda name: single(train, name) if train else 0)
        weights = fit_weights(train, members, choices=CHOICES).weights()
        assert vote_accuracy(test, weights) >= single(test, looks_best) - 0.005


def test_fifty_labels_are_enough_for_a_vote_of_comparable_members_to_gain() -> None:
    test = questions(SKILLS, 4000, 98)
    gains = []
    for seed in range(5):
        train = questions(SKILLS, 50, seed)
        looks_best = max(COMPARABLE, key=lambda name: single(train, name))
        weights = fit_weights(train, list(COMPARABLE), choices=CHOICES).weights()
        gains.append(vote_accuracy(test, weights) - single(test, looks_best))
    assert sum(gains) / len(gains) > 0.01


def test_a_copy_of_a_member_adds_nothing() -> None:
    skills = {name: SKILLS[name] for name in ("one", "two", "three")}
    train, test = questions(skills, 2000, 3), questions(skills, 5000, 4)
    doubled = [_with_copies(question, "three", 4) for question in train]
    seen = [_with_copies(question, "three", 4) for question in test]

    alone = fit_weights(train, list(skills), choices=CHOICES).weights()
    crowded = fit_weights(doubled, list(doubled[0].answers), choices=CHOICES).weights()

    copies = sum(crowded[name] for name in crowded if name.startswith("three"))
    assert copies == pytest.approx(alone["three"], abs=0.2)
    assert vote_accuracy(seen, crowded) == pytest.approx(vote_accuracy(test, alone), abs=0.005)


def _with_copies(question: Labelled, member: str, count: int) -> Labelled:
    copies = {f"{member}-{index}": question.answers[member] for index in range(count)}
    return Labelled({**question.answers, **copies}, question.truth)


def test_a_member_that_is_always_wrong_weighs_nothing() -> None:
    skills = {name: SKILLS[name] for name in COMPARABLE} | {"liar": WRONG_FOR_SURE}
    weights = fit_weights(questions(skills, 200, 5), list(skills), choices=CHOICES).weights()
    assert weights["liar"] == 0


def test_a_subject_has_its_own_weights_as_far_as_its_labels_prove() -> None:
    chance = random.Random(1)

    def ask(subject: str, strong: str) -> Labelled:
        answers = {
            name: 0 if chance.random() < (0.9 if name == strong else 0.5) else chance.randint(1, 9)
            for name in ("a", "b")
        }
        return Labelled(answers, 0, subject)

    train = [ask("law", "a") for _ in range(300)] + [ask("maths", "b") for _ in range(300)]
    train += [ask("rare", "b")]
    learned = fit_weights(train, ["a", "b"], choices=10)

    law, maths, rare = (learned.weights(subject) for subject in ("law", "maths", "rare"))
    assert law["a"] > law["b"]
    assert maths["b"] > maths["a"]
    assert rare == pytest.approx(learned.weights("never heard of"), abs=0.1)


def test_its_confidence_is_calibrated() -> None:
    train, test = questions(SKILLS, 2000, 6), questions(SKILLS, 5000, 7)
    learned = fit_weights(train, list(COMPARABLE), choices=CHOICES)
    answers = [{name: q.answers[name] for name in COMPARABLE} for q in test]
    sure = [learned.confidence(one) for one in answers]
    weights = learned.weights()

    assert sum(sure) / len(sure) == pytest.approx(vote_accuracy(test, weights), abs=0.03)
    assert posterior([], 10) == 0
    assert posterior([0.0], 10) == pytest.approx(0.1)


def test_it_needs_somebody_to_weigh() -> None:
    with pytest.raises(ValueError, match="need members"):
        fit_weights([], [], choices=10)
    assert JointWeights(overall={"a": 1.0}).weights() == {"a": 1.0}
