"""A vote of k of n: who won, by how much, who disagreed, and whether more votes could change it.

The verdict does not depend on the order of arrival. ``Vote.decided`` is true exactly when no
answer of the members still missing, and no absence, could change the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from dragoman_agents.ensembles.agreement import Agreement, Exact, group
from dragoman_agents.ensembles.weighting import posterior

__all__ = ["Absence", "Dissent", "Reason", "TieRule", "Verdict", "Vote", "VoteRule", "Voter"]

TieRule = Literal["first_member", "abstain"]
"""Equal weights: the answer of the member named first wins, or nobody does."""

Reason = Literal["agreed", "no_answer", "no_quorum", "tie", "low_share", "low_confidence"]
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
        minimum_confidence: How likely right the winner must be, else nobody wins; needs
            ``choices``.
        minimum_backing: The winner's part of the weight of all voters, heard or not: what one of
            three says, the others being absent, is backed by a third.
        choices: How many different answers there can be. With it, weights are taken for log-odds
            (as ``JointWeights`` and ``Reputation`` give them), and a verdict has a confidence.
    """

    quorum: int = 1
    minimum_share: float = 0.0
    tie: TieRule = "first_member"
    minimum_confidence: float = 0.0
    minimum_backing: float = 0.0
    choices: int | None = None

    def __post_init__(self) -> None:
        shares = (self.minimum_share, self.minimum_backing)
        if self.quorum < 1 or not all(0 <= share <= 1 for share in shares):
            raise ValueError("a quorum is at least 1, and a share is between 0 and 1")
        if not 0 <= self.minimum_confidence <= 1:
            raise ValueError("a confidence is between 0 and 1")
        if self.choices is None and self.minimum_confidence > 0:
            raise ValueError("a minimum confidence needs choices")


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
        backing: Its part of the weight of all voters.
        confidence: How likely the leading answer is right, if weights are log-odds; ``None``
            without ``choices``.
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
    backing: float = 0.0
    confidence: float | None = None
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
        return self.agreement.transitive and self._is_decided(self._camps(), waiting)

    def next_to_ask(self, order: Sequence[str] | None = None) -> tuple[str, ...]:
        """Whom to ask next so that nobody is asked in vain; empty once it is decided.

        These are the fewest of those not heard of, in the given order, whose answers could make a
        winner sure. Before all of them have answered nobody can have won, so asking them together
        costs no more than asking one by one. (That nobody wins may be sure earlier, when they
        differ and the rule asks for a quorum, a share or a confidence.)

        Args:
            order: Names; default: the order of the voters. Who is missing in it comes last.
        """
        if self.decided:
            return ()
        ranks = {member: rank for rank, member in enumerate(order or ())}
        waiting = [voter for voter in self._waiting() if voter.weight > 0]
        waiting.sort(key=lambda voter: ranks.get(voter.member, len(ranks)))
        if self.agreement.transitive:
            camps = self._camps()
            for count in range(1, len(waiting)):
                asked, rest = waiting[:count], waiting[count:]
                if any(self._is_decided(joined, rest) for joined in _joined(camps, asked)):
                    return tuple(voter.member for voter in asked)
        return tuple(voter.member for voter in waiting)

    def _is_decided(self, camps: Sequence[Sequence[Voter]], waiting: Sequence[Voter]) -> bool:
        now, _ = self._winner(camps)
        # Joining one camp as a whole is the most that those who wait can do for or against any.
        return all(self._winner(joined)[0] == now for joined in _joined(camps, waiting))

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
            backing=self._backing(leading),
            confidence=self._confidence(camps),
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
        if self._backing(camps[leader]) < self.rule.minimum_backing:
            return None, "low_confidence"
        if self.rule.minimum_confidence > 0:
            confidence = self._confidence(camps)
            if confidence is None or confidence < self.rule.minimum_confidence:
                return None, "low_confidence"
        return leader, "agreed"

    def _backing(self, camp: Sequence[Voter]) -> float:
        return _share(camp, [self.voters])

    def _confidence(self, camps: Sequence[Sequence[Voter]]) -> float | None:
        if self.rule.choices is None:
            return None
        return posterior([_weight(camp) for camp in camps], self.rule.choices)

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


def _joined(
    camps: Sequence[Sequence[Voter]], voters: Sequence[Voter]
) -> Iterator[list[Sequence[Voter]]]:
    """The camps after these voters joined one of them, for each of them and for a new one."""
    for index, camp in enumerate([*camps, []]):
        yield [*camps[:index], [*camp, *voters], *camps[index + 1 :]]


def _share(camp: Sequence[Voter], camps: Sequence[Sequence[Voter]]) -> float:
    total = math.fsum(voter.weight for each in camps for voter in each)
    return _weight(camp) / total if total else 0.0
