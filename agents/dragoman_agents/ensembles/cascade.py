"""The cheapest capable members first; the next stage only when the last one's answer is doubtful.

Doubt has four causes: the members of a stage disagree, their confidence is low, the answer breaks
the schema, or a check refuses it. With an ``Escalation`` for a stage, what was learned decides
whether the next stage is worth its price, be there agreement or not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct, structs

from dragoman_agents.ensembles.admission import Labelled
from dragoman_agents.ensembles.agreement import Agreement, Exact
from dragoman_agents.ensembles.escalation import Escalation, observed
from dragoman_agents.ensembles.votes import Dissent, Verdict, Vote, Voter, VoteRule

__all__ = ["Answer", "Cascade", "CascadeResult", "Doubt", "Stage", "cheapest_first", "choose_pair"]

Doubt = Literal[
    "disagreement",
    "low_confidence",
    "failed_schema",
    "failed_check",
    "no_answer",
    "better_expected",
]
"""Why a stage's answer was not taken."""


class Stage(Struct, frozen=True, kw_only=True):
    """Members that are asked together.

    Attributes:
        members: Their names; one or several.
        quorum: How many must agree; default: all of them.
        minimum_confidence: What a member's own confidence must reach, where it tells one.
    """

    members: tuple[str, ...]
    quorum: int | None = None
    minimum_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("a stage has at least one member")
        if self.quorum is not None and not 1 <= self.quorum <= len(self.members):
            raise ValueError("a stage's quorum is between 1 and the number of its members")

    @property
    def needed(self) -> int:
        """How many must agree."""
        return len(self.members) if self.quorum is None else self.quorum


class Answer(Struct, frozen=True, kw_only=True):
    """What one member said, with what is known of the answer.

    ``confidence`` is ``None`` when the member told none; ``fits`` whether the schema allows it,
    ``passed`` whether the check does; ``output_tokens`` how long it is, where the member told.
    """

    value: Any
    confidence: float | None = None
    fits: bool = True
    passed: bool = True
    model: str | None = None
    output_tokens: int | None = None


class CascadeResult(Struct, frozen=True, kw_only=True):
    """How a cascade ended.

    Attributes:
        accepted: Whether some stage's answer is beyond doubt.
        value: The answer; the best doubtful one when none was accepted.
        by: The member that wrote it.
        stage: Which stage gave it, from 0.
        doubts: Why each earlier stage was not enough.
        dissent: Answers of all stages that do not agree with the value.
    """

    accepted: bool
    value: Any = None
    by: str | None = None
    stage: int = -1
    doubts: tuple[Doubt, ...] = ()
    dissent: tuple[Dissent, ...] = ()


class Cascade:
    """Stages in order. Ask ``stage``'s members, tell ``answer`` and ``absent``, then ``advance``.

    A member that stands in several stages is asked once. The last stage has the last word: its
    own answers decide even when they disagree, by the order of its members, unless they break
    the schema or a check.

    Args:
        stages: What to try, cheapest first.
        agreement: When two answers say the same.
        escalations: What was learned of each stage but the last; ``None`` for a stage of which
            nothing was, and shorter than the stages when nothing was of the later ones.
        subject: What the task is about, for what was learned.
        input_tokens: How long it is, for the same.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        agreement: Agreement | None = None,
        *,
        escalations: Sequence[Escalation | None] = (),
        subject: str = "",
        input_tokens: int | None = None,
    ) -> None:
        if not stages:
            raise ValueError("a cascade has at least one stage")
        self.stages = tuple(stages)
        self._escalations = tuple(escalations)
        self._subject = subject
        self._input_tokens = input_tokens
        self.agreement: Agreement = agreement or Exact()
        self.at = 0
        self.result: CascadeResult | None = None
        self._answers: dict[str, Answer] = {}
        self._absent: dict[str, str] = {}
        self._doubts: list[Doubt] = []

    @property
    def to_ask(self) -> tuple[str, ...]:
        """The members of the present stage that have not been heard of."""
        if self.result is not None:
            return ()
        return tuple(name for name in self.stages[self.at].members if not self.is_heard(name))

    @property
    def unheard(self) -> tuple[str, ...]:
        """Of all stages so far, the members that neither answered nor are absent."""
        named = [name for stage in self.stages[: self.at + 1] for name in stage.members]
        return tuple(dict.fromkeys(name for name in named if not self.is_heard(name)))

    def is_heard(self, member: str) -> bool:
        """Whether it answered, or will not."""
        return member in self._answers or member in self._absent

    @property
    def settled(self) -> bool:
        """Whether the present stage needs nobody else: its answers agree, or never can."""
        vote = self._vote(self.stages[self.at])
        # What was learned looks at the answers of all, so all are waited for.
        return not vote.pending if self._learned() is not None else vote.decided

    def answer(self, member: str, answer: Answer) -> None:
        """Take what a member said."""
        self._answers[member] = answer

    def absent(self, member: str, why: str) -> None:
        """Note that a member will not answer."""
        self._absent[member] = why

    def advance(self) -> CascadeResult | None:
        """End the present stage: the result, or ``None`` when the next stage is to be asked."""
        stage = self.stages[self.at]
        verdict = self._vote(stage).verdict()
        last = self.at == len(self.stages) - 1
        doubt = self._doubt(stage, verdict)
        if self._learned() is not None and doubt in (None, "disagreement"):
            kept = self._kept(stage, verdict)
            if kept is not None:
                self.result = self._accepted(kept)
                return self.result
            doubt = doubt or "better_expected"
        if doubt is None:
            self.result = self._accepted(verdict.by)
        elif last and doubt in ("disagreement", "low_confidence", "no_answer"):
            self._doubts.append(doubt)
            self.result = self._last_word()
        elif last:
            self._doubts.append(doubt)
            self.result = self._best_effort()
        else:
            self._doubts.append(doubt)
            self.at += 1
        return self.result

    def reconsider(self) -> CascadeResult:
        """The result where stages gave none, now that members were heard all the same."""
        self.result = self._best_effort()
        return self.result

    def _learned(self) -> Escalation | None:
        """What was learned of the present stage; nothing is of the last one."""
        if self.at >= min(len(self._escalations), len(self.stages) - 1):
            return None
        return self._escalations[self.at]

    def _kept(self, stage: Stage, verdict: Verdict) -> str | None:
        """Whose answer to keep, if the next stage is not worth its price."""
        learned = self._learned()
        assert learned is not None
        told = {
            name: answer
            for name in stage.members
            if (answer := self._answers.get(name)) is not None and self._is_usable(answer)
        }
        known = [name for name in told if name in learned.stay]
        if not known:
            return None
        seen = observed(
            agree=not verdict.abstained and len(verdict.support) == len(stage.members),
            subject=self._subject,
            input_tokens=self._input_tokens,
            output_tokens={name: answer.output_tokens for name, answer in told.items()},
        )
        return None if learned.worth(seen, known) else learned.best(seen, known)[0]

    def _vote(self, stage: Stage) -> Vote:
        vote = Vote(
            (Voter(name) for name in stage.members), VoteRule(quorum=stage.needed), self.agreement
        )
        for name in stage.members:
            if name in self._absent:
                vote.absent(name, self._absent[name])
            elif name in self._answers:
                answer = self._answers[name]
                if answer.fits and answer.passed:
                    vote.cast(name, answer.value)
                else:
                    vote.absent(name, "it breaks the schema" if not answer.fits else "a check")
        return vote

    def _doubt(self, stage: Stage, verdict: Verdict) -> Doubt | None:
        if not verdict.abstained:
            told = [
                confidence
                for member in verdict.support
                if (confidence := self._answers[member].confidence) is not None
            ]
            unsure = told and max(told) < stage.minimum_confidence
            return "low_confidence" if unsure else None
        given = [self._answers[name] for name in stage.members if name in self._answers]
        if any(not answer.fits for answer in given):
            return "failed_schema"
        if any(not answer.passed for answer in given):
            return "failed_check"
        return "disagreement" if len(given) >= stage.needed else "no_answer"

    def _last_word(self) -> CascadeResult:
        """The last stage's first usable answer; else the best of the stages before."""
        for name in self.stages[self.at].members:
            answer = self._answers.get(name)
            if answer is not None and self._is_usable(answer):
                return structs.replace(self._accepted(name), accepted=len(self.stages) > 1)
        return self._best_effort()

    def _best_effort(self) -> CascadeResult:
        """Nothing is beyond doubt: the usable answer of the latest stage, marked as doubtful."""
        for at in range(len(self.stages) - 1, -1, -1):
            for name in self.stages[at].members:
                answer = self._answers.get(name)
                if answer is not None and self._is_usable(answer):
                    return structs.replace(self._accepted(name), accepted=False, stage=at)
        return CascadeResult(accepted=False, stage=self.at, doubts=tuple(self._doubts))

    def _accepted(self, by: str | None) -> CascadeResult:
        assert by is not None
        value = self._answers[by].value
        return CascadeResult(
            accepted=True,
            value=value,
            by=by,
            stage=self.at,
            doubts=tuple(self._doubts),
            dissent=tuple(
                Dissent(name, answer.value, 1.0, answer.model)
                for name, answer in self._answers.items()
                if name != by and not self._says(answer.value, value)
            ),
        )

    def _says(self, value: Any, other: Any) -> bool:
        return self.agreement.usable(value) and self.agreement.agree(value, other)

    def _is_usable(self, answer: Answer) -> bool:
        return answer.fits and answer.passed and self.agreement.usable(answer.value)


def choose_pair(
    labelled: Sequence[Labelled], prices: Mapping[str, float], last: str
) -> tuple[str, str] | None:
    """The two cheap members whose agreement best spares the dear one: a first stage.

    Of all pairs with which the cascade would have cost at most half of what it saves at best (that
    is, three quarters of asking ``last`` alone), the one that would have been right most often;
    ``None`` when there is none.

    Args:
        labelled: What to judge by.
        prices: Of every member that may be chosen, and of ``last``.
        last: Who is asked when the two disagree.
    """
    best: tuple[float, tuple[str, str]] | None = None
    cheap = sorted((name for name in prices if name != last), key=lambda name: prices[name])
    for first, second in itertools.combinations(cheap, 2):
        price = prices[first] + prices[second]
        if price > prices[last] / 2:
            continue
        right = asked = 0
        for question in labelled:
            answer = question.answers.get(first)
            agree = answer is not None and answer == question.answers.get(second)
            asked += not agree
            right += (answer if agree else question.answers.get(last)) == question.truth
        price += prices[last] * asked / max(1, len(labelled))
        if price <= 0.75 * prices[last] and (best is None or right > best[0]):
            best = right, (first, second)
    return None if best is None else best[1]


def cheapest_first(
    prices: Mapping[str, float | None], capable: Iterable[str] | None = None
) -> list[Stage]:
    """One stage per capable member, by price; a member whose price is unknown comes last."""
    names = list(prices) if capable is None else [name for name in prices if name in set(capable)]

    def order(name: str) -> tuple[bool, float]:
        price = prices[name]
        return price is None, price or 0.0

    return [Stage(members=(name,)) for name in sorted(names, key=order)]
