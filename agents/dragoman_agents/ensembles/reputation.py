"""How much each member's word weighs: learned from labelled results, or from what others say.

An account is a count of right and wrong with a prior; the weight is the log-odds that a member is
right against the odds of guessing, so a member that is right no more often than chance weighs
nothing. Without labels, a member is measured against the vote of all others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping

from msgspec import Struct

__all__ = ["Account", "Reputation", "accuracy_weight"]

CERTAIN = 0.999
"""No member is taken for more certain than this: an infinite weight would end every vote."""


class Account(Struct):
    """What is known of one member: how often it was right, of how many observations."""

    right: float = 0.0
    seen: float = 0.0


class Reputation:
    """Accounts of members that answer the same kind of question.

    Args:
        prior: What accuracy to expect of a member that nobody knows.
        strength: For how many observations the prior counts.
        choices: How many different answers chance would pick from; 2 or more.
        memory: What part of the past counts after one more observation: 1 forgets nothing,
            0.995 has a half-life of about 140 observations.
    """

    def __init__(
        self,
        *,
        prior: float = 0.6,
        strength: float = 10.0,
        choices: int = 2,
        memory: float = 1.0,
    ) -> None:
        if not 0 < prior < 1 or strength <= 0 or choices < 2 or not 0 < memory <= 1:
            raise ValueError("a prior and a memory are between 0 and 1, choices at least 2")
        self.prior = prior
        self.strength = strength
        self.choices = choices
        self.memory = memory
        self.accounts: defaultdict[str, Account] = defaultdict(Account)

    def accuracy(self, member: str) -> float:
        """The expected rate of right answers."""
        account = self.accounts.get(member, Account())
        return (account.right + self.prior * self.strength) / (account.seen + self.strength)

    def uncertainty(self, member: str) -> float:
        """The standard deviation of that expectation."""
        rate = self.accuracy(member)
        seen = self.accounts.get(member, Account()).seen + self.strength
        return math.sqrt(rate * (1 - rate) / (seen + 1))

    def weight(self, member: str) -> float:
        """How much the member's vote counts; 0 for one that is no better than chance."""
        return accuracy_weight(self.accuracy(member), self.choices)

    def weights(self, members: Iterable[str]) -> dict[str, float]:
        """The weights of several members. When none is above 0, all weigh the same: 1."""
        weights = {member: self.weight(member) for member in members}
        return weights if any(weights.values()) else dict.fromkeys(weights, 1.0)

    def observe(self, member: str, right: bool | float) -> None:
        """Count one labelled result; a number between 0 and 1 is partly right."""
        account = self.accounts[member]
        account.right = account.right * self.memory + float(right)
        account.seen = account.seen * self.memory + 1.0

    def observe_labelled(self, answers: Mapping[str, Hashable], truth: Hashable) -> None:
        """Count the answers of several members to a question whose answer is known."""
        for member, answer in answers.items():
            self.observe(member, answer == truth)

    def observe_consensus(self, answers: Mapping[str, Hashable]) -> None:
        """Count the answers to a question that nobody labelled.

        Each member is measured against the weighted vote of the others, never against a vote it
        took part in. Where the others are split, it learns little.
        """
        if len(answers) < 3:
            return  # of two that differ, neither is the odd one out
        weights = self.weights(answers)
        credits = {member: _credit(member, answers, weights) for member in answers}
        for member, credit in credits.items():
            if credit is not None:
                self.observe(member, credit)


def accuracy_weight(accuracy: float, choices: int = 2) -> float:
    """The log-odds of being right against a guess among ``choices``, not below 0."""
    rate = min(accuracy, CERTAIN)
    if rate * choices <= 1:
        return 0.0
    return math.log(rate * (choices - 1) / (1 - rate))


def _credit(
    member: str, answers: Mapping[str, Hashable], weights: Mapping[str, float]
) -> float | None:
    """What part of the others' leading answers the member gave; ``None`` without any weight."""
    votes: defaultdict[Hashable, float] = defaultdict(float)
    for other, answer in answers.items():
        if other != member:
            votes[answer] += weights[other]
    top = max(votes.values(), default=0.0)
    if top <= 0:
        return None
    leaders = [answer for answer, weight in votes.items() if math.isclose(weight, top)]
    return 1 / len(leaders) if answers[member] in leaders else 0.0
