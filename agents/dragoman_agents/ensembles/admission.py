"""Who may vote: members far below the best are heard but do not count.

A vote gains from members that are about as good and err differently; weak members that err alike
outvote a strong one. With labelled answers the pool is chosen by what its vote would have said;
with accounts only, by the distance to the best.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence

from msgspec import Struct

from dragoman_agents.ensembles.reputation import Reputation, accuracy_weight

__all__ = ["Labelled", "admit", "choose_pool", "vote_accuracy", "voting_weights"]

MARGIN = 0.10
"""How far below the best a member may be and still vote."""
DOUBT = 2.0
"""How many standard deviations of a gap are held in a member's favour."""
CERTAINTY = 1.0
"""By how many standard errors a larger pool must be better than a smaller one."""


class Labelled(Struct, frozen=True):
    """One question with a known answer, and what each member said, in a comparable form.

    Attributes:
        answers: By member; ``None`` for one that gave none.
        truth: The right answer.
        subject: What the question is about; empty when nobody knows.
    """

    answers: Mapping[str, Hashable]
    truth: Hashable
    subject: str = ""


def admit(
    reputation: Reputation, members: Sequence[str], *, margin: float = MARGIN
) -> tuple[str, ...]:
    """The members that may vote, the best first; at least one.

    A member that is little known is not shut out before it could show what it can do: a gap that
    may be chance is held in its favour.
    """
    ranked = sorted(members, key=lambda member: -reputation.accuracy(member))
    best = ranked[0]

    return tuple(
        member
        for member in ranked
        if member == best
        or (reputation.weight(member) > 0 and _may_be_chance(reputation, best, member, margin))
    )


def voting_weights(
    reputation: Reputation, members: Sequence[str], *, margin: float = MARGIN
) -> dict[str, float]:
    """The weight of each member in a vote: 0 for those that are not admitted.

    Members whose difference may be chance weigh the same, so that noise does not break ties.
    """
    weights = dict.fromkeys(members, 0.0)
    camp: list[str] = []
    for member in admit(reputation, members, margin=margin):
        if camp and not _may_be_chance(reputation, camp[0], member):
            camp = []
        camp.append(member)
        accuracy = sum(reputation.accuracy(one) for one in camp) / len(camp)
        weights |= dict.fromkeys(camp, accuracy_weight(accuracy, reputation.choices))
    return weights if any(weights.values()) else {**weights, **dict.fromkeys(camp, 1.0)}


def choose_pool(
    labelled: Sequence[Labelled],
    weights: Mapping[str, float],
    *,
    margin: float = MARGIN,
    largest: int = 7,
) -> tuple[str, ...]:
    """The members whose vote was right most often, found by adding the most useful one by one.

    Two members are added at a time where one alone does not help, since a second voice only
    draws level. The pool is the best single member when no vote is clearly better than it.

    Args:
        labelled: What to judge by.
        weights: Of every member that may be chosen.
        margin: Members farther below the best single one are not considered.
        largest: How many members the pool may have.

    Raises:
        ValueError: nothing to judge by.
    """
    if not labelled or not weights:
        raise ValueError("choosing a pool needs members and labelled answers")
    singles = {member: vote_accuracy(labelled, {member: weights[member]}) for member in weights}
    best = max(singles, key=lambda member: singles[member])
    eligible = [
        member
        for member in sorted(weights, key=lambda member: -singles[member])
        if weights[member] > 0 and singles[member] >= singles[best] - margin
    ]
    pool: tuple[str, ...] = (best,)
    reached = singles[best]
    while len(pool) < largest:
        grown = _best_growth(pool, eligible, labelled, weights, largest)
        if grown is None or grown[0] <= reached:
            break
        reached, pool = grown
    gain = reached - singles[best]
    return pool if gain > CERTAINTY * _standard_error(labelled, pool, best, weights) else (best,)


def vote_accuracy(labelled: Sequence[Labelled], weights: Mapping[str, float]) -> float:
    """How often the weighted vote of these members was right."""
    right = sum(_is_right(question, weights) for question in labelled)
    return right / len(labelled)


def _may_be_chance(reputation: Reputation, better: str, worse: str, margin: float = 0.0) -> bool:
    """Whether the gap between two members, beyond the margin, is within what is not known."""
    noise = math.hypot(reputation.uncertainty(better), reputation.uncertainty(worse))
    return reputation.accuracy(better) - reputation.accuracy(worse) <= margin + DOUBT * noise


def _best_growth(
    pool: tuple[str, ...],
    eligible: Sequence[str],
    labelled: Sequence[Labelled],
    weights: Mapping[str, float],
    largest: int,
) -> tuple[float, tuple[str, ...]] | None:
    """The pool with one more member, or two, that was right most often."""
    rest = [member for member in eligible if member not in pool]
    steps: list[tuple[str, ...]] = [(one,) for one in rest]
    if len(pool) + 2 <= largest:
        steps += itertools.combinations(rest, 2)
    if not steps:
        return None
    grown = [(*pool, *step) for step in steps]
    scored = [
        (vote_accuracy(labelled, {member: weights[member] for member in members}), members)
        for members in grown
    ]
    return max(scored, key=lambda entry: (entry[0], -len(entry[1])))


def _standard_error(
    labelled: Sequence[Labelled], pool: Sequence[str], best: str, weights: Mapping[str, float]
) -> float:
    """Of the difference between the pool and its best member on the same questions."""
    chosen = {member: weights[member] for member in pool}
    differences = [
        _is_right(question, chosen) - _is_right(question, {best: weights[best]})
        for question in labelled
    ]
    mean = math.fsum(differences) / len(differences)
    spread = math.fsum((difference - mean) ** 2 for difference in differences)
    return math.sqrt(spread) / len(differences)


def _is_right(question: Labelled, weights: Mapping[str, float]) -> bool:
    """Whether the weighted vote is right: as ``Vote`` decides, without its book-keeping."""
    votes: dict[Hashable, float] = {}
    # Heaviest first: of equal sums the one with the heaviest member wins.
    for member in sorted(weights, key=lambda name: -weights[name]):
        answer = question.answers.get(member)
        if answer is not None:
            votes[answer] = votes.get(answer, 0.0) + weights[member]
    return bool(votes) and max(votes, key=lambda answer: votes[answer]) == question.truth
