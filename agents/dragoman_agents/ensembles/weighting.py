"""Weights of all members learned together, so that two who err alike do not count twice.

A member's own accuracy (``reputation``) says how often it is right, not what it adds to the others.
Here the weights are those under which the right answers were most likely: the chance of an answer
is proportional to the exponential of the weights of those who gave it. A subject may deviate as far
as its labels prove it; with few labels nearly all trust lies in the best single member.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence

from msgspec import Struct

from dragoman_agents.ensembles.admission import Labelled, voting_weights
from dragoman_agents.ensembles.fitting import climb
from dragoman_agents.ensembles.reputation import Reputation, accuracy_weight

__all__ = ["JointWeights", "fit_weights", "posterior"]

OVERALL_RIDGE = 5.0
SUBJECT_RIDGE = 20.0
"""How strongly a weight is drawn to where it began, and a subject's to the overall one: about as
many labels as it takes to move it halfway."""
LEAST_WEIGHT = 1e-3
NEAR = 0.05
"""How far below the best a member may be and still have a part in where weights begin."""
MOST_TRUST = 0.5
HALF_TRUST_LABELS = 20
"""How much of the beginning is a vote at most, and from how many labels on half of that."""
CORRELATION = 0.6
"""Members err alike, so together they know less than the sum of their log-odds."""


class JointWeights(Struct, frozen=True, kw_only=True):
    """What was learned; plain data, so it can be stored and sent.

    Attributes:
        overall: The weight of each member where the subject is unknown.
        subjects: Per subject, what is added to it.
        choices: How many different answers there can be.
        labels: From how many labelled questions it was learned.
    """

    overall: Mapping[str, float]
    subjects: Mapping[str, Mapping[str, float]] = {}
    choices: int = 2
    labels: int = 0

    def weights(self, subject: str = "") -> dict[str, float]:
        """The weight of each member in a subject; 0 for those that add nothing."""
        added = self.subjects.get(subject, {})
        weights = {
            member: weight + added.get(member, 0.0) for member, weight in self.overall.items()
        }
        return {
            member: weight if weight >= LEAST_WEIGHT else 0.0 for member, weight in weights.items()
        }

    def confidence(self, answers: Mapping[str, Hashable], subject: str = "") -> float:
        """How likely the weighted vote over these answers is right."""
        weights = self.weights(subject)
        votes: dict[Hashable, float] = {}
        for member, answer in answers.items():
            if answer is not None:
                votes[answer] = votes.get(answer, 0.0) + weights.get(member, 0.0)
        return posterior(votes.values(), self.choices)


def posterior(camps: Iterable[float], choices: int) -> float:
    """The probability of the heaviest camp, when weights are log-odds; 0 without camps.

    Answers that nobody gave are possible too.
    """
    weights = list(camps)
    if not weights:
        return 0.0
    top = max(weights)
    unheard = max(0, choices - len(weights))
    whole = math.fsum(math.exp(weight - top) for weight in weights) + unheard * math.exp(-top)
    return 1.0 / whole


def fit_weights(
    labelled: Sequence[Labelled],
    members: Sequence[str],
    *,
    choices: int,
    overall_ridge: float = OVERALL_RIDGE,
    subject_ridge: float = SUBJECT_RIDGE,
) -> JointWeights:
    """Learn the weights of these members from questions whose answers are known.

    Raises:
        ValueError: nobody to weigh, or fewer than two choices.
    """
    if not members or choices < 2:
        raise ValueError("weights need members, and at least two possible answers")
    problem = _Problem(labelled, tuple(members), choices)
    prior = _prior(labelled, members, choices)
    anchors = [*prior, *([0.0] * (len(problem.start) - len(prior)))]
    ridges = [overall_ridge] * len(prior) + [subject_ridge] * (len(anchors) - len(prior))

    def gradient(at: list[float]) -> list[float]:
        slopes = problem.gradient(at)
        return [
            slope - ridge * (number - anchor)
            for slope, ridge, number, anchor in zip(slopes, ridges, at, anchors, strict=True)
        ]

    floors = [0.0] * len(prior) + [-math.inf] * (len(anchors) - len(prior))
    found = climb(gradient, anchors, floors=floors) if labelled else anchors
    width = len(members)
    return JointWeights(
        overall=dict(zip(members, found[:width], strict=True)),
        subjects={
            subject: dict(zip(members, found[width * (at + 1) : width * (at + 2)], strict=True))
            for at, subject in enumerate(problem.subjects)
        },
        choices=choices,
        labels=len(labelled),
    )


class _Problem:
    """The labelled questions as camps of members, and the slope of their likelihood."""

    def __init__(
        self, labelled: Sequence[Labelled], members: tuple[str, ...], choices: int
    ) -> None:
        named = {question.subject for question in labelled}
        self.subjects = sorted(named) if len(named) > 1 or named - {""} else []
        self.start = [0.0] * (len(members) * (len(self.subjects) + 1))
        self._width = len(members)
        self._choices = choices
        ranks = {member: rank for rank, member in enumerate(members)}
        at = {subject: index + 1 for index, subject in enumerate(self.subjects)}
        seen: Counter[tuple[int, tuple[tuple[int, ...], ...], int]] = Counter()
        for question in labelled:
            camps: dict[Hashable, list[int]] = {}
            for member, answer in question.answers.items():
                if answer is not None and member in ranks:
                    camps.setdefault(answer, []).append(ranks[member])
            answers = list(camps)
            right = answers.index(question.truth) if question.truth in camps else -1
            seen[at.get(question.subject, 0), tuple(map(tuple, camps.values())), right] += 1
        # Questions that look alike are weighed once.
        self._rows = [(*row, count) for row, count in seen.items() if row[1]]

    def gradient(self, at: list[float]) -> list[float]:
        width, slopes, exp = self._width, [0.0] * len(at), math.exp
        for subject, camps, right, count in self._rows:
            offset = subject * width
            raised = [
                exp(sum(at[rank] + (at[offset + rank] if offset else 0.0) for rank in camp))
                for camp in camps
            ]
            whole = sum(raised) + max(0, self._choices - len(camps))
            for index, camp in enumerate(camps):
                slope = count * ((index == right) - raised[index] / whole)
                for rank in camp:
                    slopes[rank] += slope
                    if offset:
                        slopes[offset + rank] += slope
        return slopes


def _prior(labelled: Sequence[Labelled], members: Sequence[str], choices: int) -> list[float]:
    """Where weights begin: at the best member so far; with more labels, halfway to a vote.

    That vote is the one which each member's own accuracy would give, of those that are near the
    best. Without labels the first member has all weight.
    """
    reputation = Reputation(choices=choices)
    for question in labelled:
        answers = {member: question.answers.get(member) for member in members}
        reputation.observe_labelled(answers, question.truth)
    best = max(members, key=reputation.accuracy)
    alone = max(accuracy_weight(reputation.accuracy(best), choices), LEAST_WEIGHT)
    vote = voting_weights(reputation, members, margin=NEAR)
    part = MOST_TRUST * len(labelled) / (len(labelled) + HALF_TRUST_LABELS)
    return [
        (1 - part) * (alone if member == best else 0.0) + part * CORRELATION * vote[member]
        for member in members
    ]
