"""A vote of k of n: who won, by how much, who disagreed, and whether more votes could change it.

The verdict does not depend on the order of arrival. ``Vote.decided`` is true exactly when no
answer of the members still missing, and no absence, could change the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

from dragoman_agents.ensembles.agreement import Agreement, Exact, group

__all__ = ["Absence", "Dissent", "Reason", "TieRule", "Verdict", "Vote", "VoteRule", "Voter"]

TieRule = Literal["first_member", "abstain"]
"""Equal weights: the answer of the member named first wins, or nobody does."""

Reason = Literal["agreed", "no_answer", "no_quorum", "tie", "low_share"]
"""Why there is a verdict, or none."""


class Voter(Struct, frozen=True):
    """Who may vote. Weight 0 does not count, but is told in the dissent."""

    member: str
    weight: float = 1.0
    model: str | None = None


class VoteRule(Struct, frozen=True, kw_only=True):
    """What makes an answer the verdict.

    Attributes:
        quorum: So many members with weight must agree (k of n).
        minimum_share: The winner's part of all weight that was cast, else nobody wins. A
            ``Calibrator`` gives the share that stands for a wanted confidence.
        tie: What equal weights mean.
    """

    quorum: int = 1
    minimum_share: float = 0.0
    tie: TieRule = "first_member"

    def __post_init__(self) -> None:
        if self.quorum < 1 or not 0 <= self.minimum_share <= 1:
            raise ValueError("a quorum is at least 1, and a share is between 0 and 1")


class Dissent(Struct, frozen=True):
    """An answer that did not win, with who gave it."""

    member: str
    value: Any
    weight: float
    model: str | None = None


class Absence(Struct, frozen=True):
    """A member without a usable answer, and why."""

    member: str
    why: str
    model: str | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """How the vote stands.

    Attributes:
        abstained: Whether there is no answer to give.
        value: The winning answer, as its heaviest member wrote it.
        by: The member that wrote ``value``.
        reason: Why.
        support: The members that agree, in the order of the voters.
        share: The leading answer's part of all weight that was cast; 0 without votes.
        dissent: The answers that do not agree.
        absent: Who gave no usable answer.
        pending: Who was not waited for.
    """

    abstained: bool
    reason: Reason
    value: Any = None
    by: str | None = None
    support: tuple[str, ...] = ()
    share: float = 0.0
    dissent: tuple[Dissent, ...] = ()
    absent: tuple[Absence, ...] = ()
    pending: tuple[str, ...] = ()


class Vote:
    """One question put to several members.

    Args:
        voters: Everybody who may answer; their order breaks ties.
        rule: What makes a verdict.
        agreement: When two answers say the same.

    Raises:
        ValueError: a name twice, or a weight that is not a finite number of at least 0.
    """

    def __init__(
        self,
        voters: Iterable[Voter],
        rule: VoteRule | None = None,
        agreement: Agreement | None = None,
    ) -> None:
        self.voters = tuple(voters)
        self.rule = rule or VoteRule()
        self.agreement: Agreement = agreement or Exact()
        self._rank = {voter.member: index for index, voter in enumerate(self.voters)}
        if len(self._rank) < len(self.voters):
            raise ValueError("two voters have the same name")
        if any(not (math.isfinite(voter.weight) and voter.weight >= 0) for voter in self.voters):
            raise ValueError("a weight is a finite number of at least 0")
        self._answers: dict[str, Any] = {}
        self._absent: dict[str, str] = {}

    @property
    def pending(self) -> tuple[str, ...]:
        """Who has not been heard of."""
        return tuple(voter.member for voter in self._waiting())

    def cast(self, member: str, value: Any) -> None:
        """Count an answer; one that cannot be compared counts as an absence.

        Raises:
            ValueError: nobody of this name may vote, or has not voted already.
        """
        self._expect(member)
        if self.agreement.usable(value):
            self._answers[member] = value
        else:
            self._absent[member] = "its answer cannot be compared"

    def absent(self, member: str, why: str) -> None:
        """Note that a member will not answer."""
        self._expect(member)
        self._absent[member] = why

    @property
    def decided(self) -> bool:
        """Whether nothing that may still come changes who wins, or that nobody does."""
        waiting = [voter for voter in self._waiting() if voter.weight > 0]
        if not waiting:
            return True
        if not self.agreement.transitive:
            return False
        camps = self._camps()
        now, _ = self._winner(camps)
        # Joining one camp as a whole is the most that those who wait can do for or against any.
        return all(
            self._winner([*camps[:index], [*camp, *waiting], *camps[index + 1 :]])[0] == now
            for index, camp in enumerate([*camps, []])
        )

    def verdict(self) -> Verdict:
        """How it stands now, as if nobody else answered."""
        camps = self._camps()
        winner, reason = self._winner(camps)
        leading = max(camps, key=self._standing, default=[])
        by = None if winner is None else max(leading, key=lambda voter: voter.weight)
        support = () if by is None else self._supporters(by, leading)
        return Verdict(
            abstained=by is None,
            reason=reason,
            value=None if by is None else self._answers[by.member],
            by=None if by is None else by.member,
            support=support,
            share=_share(leading, camps),
            dissent=tuple(
                Dissent(voter.member, self._answers[voter.member], voter.weight, voter.model)
                for voter in self.voters
                if voter.member in self._answers and voter.member not in support
            ),
            absent=tuple(
                Absence(voter.member, self._absent[voter.member], voter.model)
                for voter in self.voters
                if voter.member in self._absent
            ),
            pending=self.pending,
        )

    def _winner(self, camps: Sequence[Sequence[Voter]]) -> tuple[int | None, Reason]:
        """Which camp wins, or why none does."""
        if not camps:
            return None, "no_answer"
        leader = max(range(len(camps)), key=lambda index: self._standing(camps[index]))
        weight = _weight(camps[leader])
        tied = sum(_weight(camp) == weight for camp in camps) > 1
        if tied and self.rule.tie == "abstain":
            return None, "tie"
        if len(camps[leader]) < self.rule.quorum:
            return None, "no_quorum"
        if _share(camps[leader], camps) < self.rule.minimum_share:
            return None, "low_share"
        return leader, "agreed"

    def _standing(self, camp: Sequence[Voter]) -> tuple[float, int]:
        """What camps are ordered by: weight, then the voter named first."""
        return _weight(camp), -min(self._rank[voter.member] for voter in camp)

    def _camps(self) -> list[list[Voter]]:
        """Those who answered and have weight, grouped by what they said."""
        voters = [
            voter for voter in self.voters if voter.weight > 0 and voter.member in self._answers
        ]
        groups = group([self._answers[voter.member] for voter in voters], self.agreement)
        return [[voters[index] for index in members] for members in groups]

    def _supporters(self, by: Voter, camp: Sequence[Voter]) -> tuple[str, ...]:
        """The winning camp, and those without weight who say the same."""
        value = self._answers[by.member]
        return tuple(
            voter.member
            for voter in self.voters
            if voter in camp
            or (
                voter.weight == 0
                and voter.member in self._answers
                and self.agreement.agree(value, self._answers[voter.member])
            )
        )

    def _waiting(self) -> list[Voter]:
        heard = self._answers.keys() | self._absent.keys()
        return [voter for voter in self.voters if voter.member not in heard]

    def _expect(self, member: str) -> None:
        if member not in self._rank:
            raise ValueError(f"{member!r} may not vote here")
        if member in self._answers or member in self._absent:
            raise ValueError(f"{member!r} has voted already")


def _weight(camp: Iterable[Voter]) -> float:
    # fsum rounds once, so that the order of arrival cannot make or break a tie.
    return math.fsum(voter.weight for voter in camp)


def _share(camp: Sequence[Voter], camps: Sequence[Sequence[Voter]]) -> float:
    total = math.fsum(voter.weight for each in camps for voter in each)
    return _weight(camp) / total if total else 0.0
