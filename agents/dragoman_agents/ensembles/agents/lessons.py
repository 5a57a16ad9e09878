"""Learning from labelled questions that members have answered: weights, escalations, qualities.

Spec: spec/ensembles.md, learning. A lesson is one question with its right answer and what each
member said; from lessons comes the knowledge that an ensemble's option ``learned`` names. How good
an ensemble with it would be is told of questions that it was not learned from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from dragoman_agents.ensembles.admission import Labelled
from dragoman_agents.ensembles.agents.knowledge import (
    CascadeKnowledge,
    ConsensusKnowledge,
    RouterKnowledge,
)
from dragoman_agents.ensembles.agents.labels import Ballot, label_of, weigh_in
from dragoman_agents.ensembles.agreement import Agreement
from dragoman_agents.ensembles.cascade import Answer, Cascade, CascadeResult, Stage
from dragoman_agents.ensembles.escalation import Escalation, Example, fit_escalation, observed
from dragoman_agents.ensembles.ordering import ask_order
from dragoman_agents.ensembles.votes import Vote, Voter, VoteRule
from dragoman_agents.ensembles.weighting import fit_weights

__all__ = [
    "Lesson",
    "Reply",
    "Score",
    "labelled",
    "learn_cascade",
    "learn_consensus",
    "learn_qualities",
    "prices_of",
    "score_cascade",
    "score_consensus",
    "score_members",
]

PARTS = 4
"""Every score is of one part of the lessons, with what the other parts taught."""
Known = TypeVar("Known")


class Reply(Struct, kw_only=True, omit_defaults=True):
    """What one member said.

    Attributes:
        value: Its answer.
        error: The code of its error, if it gave none.
        output_tokens: How long the answer is, where it told.
        cost: What it cost, where it told.
        currency: Of that.
    """

    value: Any = None
    error: str | None = None
    output_tokens: int | None = None
    cost: float | None = None
    currency: str | None = None


class Lesson(Struct, kw_only=True, omit_defaults=True):
    """One labelled question.

    Attributes:
        input: What was asked.
        truth: The right answer.
        subject: What it is about, as the ensemble sees it; empty when nobody says.
        input_tokens: How long it is, as an ensemble reckons it.
        answers: By member.
    """

    input: Any
    truth: Any
    subject: str = ""
    input_tokens: int | None = None
    answers: dict[str, Reply] = {}

    def values(self, members: Iterable[str]) -> dict[str, Any]:
        """The answers of these members, of those that gave one."""
        return {
            name: reply.value
            for name in members
            if (reply := self.answers.get(name)) is not None and reply.error is None
        }

    def is_right(self, member: str, agreement: Agreement) -> bool:
        """Whether the member's answer says the same as the right one."""
        said = self.values([member])
        return bool(said) and _says(said[member], self.truth, agreement)


class Score(Struct, frozen=True):
    """How often somebody was right and gave an answer, of so many questions, and what one cost."""

    right: int
    seen: int
    given: int
    price: float | None = None

    @property
    def share(self) -> float:
        """The part that was right."""
        return self.right / self.seen if self.seen else 0.0


def labelled(
    lessons: Sequence[Lesson], members: Sequence[str], agreement: Agreement
) -> list[Labelled]:
    """The lessons with answers as numbers of the groups that they fall into."""
    found = []
    for lesson in lessons:
        ballot = Ballot(lesson.values(members), None, lesson.subject)
        label = label_of(ballot, lesson.truth, agreement, lesson.subject)
        found.append(Labelled(label.answers, label.right, label.subject))
    return found


def prices_of(lessons: Sequence[Lesson], members: Iterable[str]) -> dict[str, float | None]:
    """What an answer of each member cost on average; ``None`` where none of its answers tells.

    Prices in several currencies cannot be compared: then none is known.
    """
    names = list(members)
    replies = [
        lesson.answers[name] for lesson in lessons for name in names if name in lesson.answers
    ]
    if len({reply.currency for reply in replies if reply.cost is not None}) > 1:
        return dict.fromkeys(names)
    prices: dict[str, float | None] = {}
    for name in names:
        told = [
            reply.cost
            for lesson in lessons
            if (reply := lesson.answers.get(name)) is not None and reply.cost is not None
        ]
        prices[name] = math.fsum(told) / len(told) if told else None
    return prices


def learn_consensus(
    skill: str, known: Sequence[Labelled], prices: Mapping[str, float | None], *, choices: int
) -> ConsensusKnowledge:
    """Learn weights, and whom to ask first where all prices are known.

    Args:
        skill: What was asked.
        known: The labelled answers.
        prices: What an answer costs, by member; its members are those that vote.
        choices: How many different answers there can be.
    """
    weights = fit_weights(known, list(prices), choices=choices)
    money = {name: price for name, price in prices.items() if price is not None}
    order: tuple[str, ...] = ()
    if len(money) == len(prices) and any(money.values()):
        order = ask_order(
            [question.answers for question in known],
            lambda index: weights.weights(known[index].subject),
            money,
        )
    return ConsensusKnowledge(skill=skill, labels=len(known), weights=weights, order=order)


def score_consensus(
    known: Sequence[Labelled], members: Sequence[str], rule: VoteRule, *, choices: int
) -> Score | None:
    """How often the vote would be right; ``None`` where there is too little to tell."""

    def judge(taught: Sequence[Labelled], asked: Sequence[Labelled]) -> Score:
        weights = fit_weights(taught, members, choices=choices)
        right = given = 0
        for question in asked:
            learned = weights.weights(question.subject)
            ranked = sorted(members, key=lambda name: -learned[name])
            own = weigh_in(learned, ranked, rule.quorum)
            vote = Vote([Voter(name, own[name]) for name in members], rule)
            for name, answer in question.answers.items():
                vote.cast(name, answer)
            verdict = vote.verdict()
            given += not verdict.abstained
            right += not verdict.abstained and verdict.value == question.truth
        return Score(right, len(asked), given)

    return _held_out(known, judge)


def learn_qualities(skill: str, known: Sequence[Labelled]) -> RouterKnowledge:
    """Count how often each member is right, by subject."""
    qualities: dict[str, dict[str, tuple[float, float]]] = {}
    for question in known:
        table = qualities.setdefault(question.subject, {})
        for name, answer in question.answers.items():
            right, seen = table.get(name, (0.0, 0.0))
            table[name] = (right + (answer == question.truth), seen + 1)
    return RouterKnowledge(skill=skill, labels=len(known), qualities=qualities)


def learn_cascade(
    skill: str,
    lessons: Sequence[Lesson],
    stages: Sequence[Stage],
    agreement: Agreement,
    goes: float,
) -> CascadeKnowledge:
    """Learn when to go on to the next stage.

    Args:
        skill: What was asked.
        lessons: With answers of the members of all stages.
        stages: In order.
        agreement: When two answers say the same.
        goes: What part of the tasks of a stage may go on to the next, at its average price.

    Raises:
        ValueError: a stage gave no answer to any question.
    """
    return CascadeKnowledge(
        skill=skill,
        labels=len(lessons),
        stages=tuple(stage.members for stage in stages),
        escalations=_escalations(lessons, stages, agreement, goes),
    )


def score_cascade(
    lessons: Sequence[Lesson], stages: Sequence[Stage], agreement: Agreement, goes: float
) -> Score | None:
    """How often the cascade would be right, and what it would cost; ``None`` as above."""
    prices = prices_of(lessons, [name for stage in stages for name in stage.members])

    def judge(taught: Sequence[Lesson], asked: Sequence[Lesson]) -> Score:
        escalations = _escalations(taught, stages, agreement, goes)
        right, given, spent = 0, 0, 0.0
        for lesson in asked:
            run = Cascade(
                stages,
                agreement,
                escalations=escalations,
                subject=lesson.subject,
                input_tokens=lesson.input_tokens,
            )
            result: CascadeResult | None = None
            while result is None:
                for name in run.to_ask:
                    spent += prices[name] or 0.0
                    _tell(run, name, lesson)
                result = run.advance()
            given += result.by is not None
            right += result.by is not None and _says(result.value, lesson.truth, agreement)
        is_known = None not in prices.values() and bool(asked)
        return Score(right, len(asked), given, spent / len(asked) if is_known else None)

    return _held_out(lessons, judge)


def score_members(
    lessons: Sequence[Lesson], members: Sequence[str], agreement: Agreement
) -> dict[str, Score]:
    """How often each member is right, of all questions."""
    prices = prices_of(lessons, members)
    return {
        name: Score(
            sum(lesson.is_right(name, agreement) for lesson in lessons),
            len(lessons),
            sum(bool(lesson.values([name])) for lesson in lessons),
            prices[name],
        )
        for name in members
    }


def _held_out(
    lessons: Sequence[Known], judge: Callable[[Sequence[Known], Sequence[Known]], Score]
) -> Score | None:
    """The sum of the scores of all parts, each by what the others taught."""
    if len(lessons) < 2 * PARTS:
        return None
    scores = [
        judge(
            [lesson for at, lesson in enumerate(lessons) if at % PARTS != part],
            lessons[part::PARTS],
        )
        for part in range(PARTS)
    ]
    seen = sum(score.seen for score in scores)
    costs = [score.price * score.seen for score in scores if score.price is not None]
    price = math.fsum(costs) / seen if len(costs) == len(scores) else None
    given = sum(score.given for score in scores)
    return Score(sum(score.right for score in scores), seen, given, price)


def _escalations(
    lessons: Sequence[Lesson], stages: Sequence[Stage], agreement: Agreement, goes: float
) -> tuple[Escalation, ...]:
    """What each stage but the last has to know."""
    found = []
    for stage, above in itertools.pairwise(stages):
        prices = prices_of(lessons, [*stage.members, *above.members])
        # Where prices are not known, what counts is how often the next stage is asked.
        is_known = None not in prices.values() and any(prices[name] for name in above.members)
        price = sum(prices[name] or 0.0 for name in stage.members) if is_known else 0.0
        further = sum(prices[name] or 0.0 for name in above.members) if is_known else 1.0
        examples = [
            _example(lesson, stage, above, agreement, price, further)
            for lesson in lessons
            if lesson.values(stage.members)
        ]
        if not examples:
            raise ValueError(f"{', '.join(stage.members)}: no answer to learn from")
        found.append(fit_escalation(examples, price + goes * further))
    return tuple(found)


def _example(
    lesson: Lesson,
    stage: Stage,
    above: Stage,
    agreement: Agreement,
    price: float,
    further: float,
) -> Example:
    verdict = _asked_alone(stage, lesson, agreement)
    next_one = _asked_alone(above, lesson, agreement)
    agree = verdict.accepted and len(lesson.values(stage.members)) == len(stage.members)
    return Example(
        features=observed(
            agree=agree and not verdict.dissent,
            subject=lesson.subject,
            input_tokens=lesson.input_tokens,
            output_tokens={
                name: lesson.answers[name].output_tokens for name in lesson.values(stage.members)
            },
        ),
        stays={name: lesson.is_right(name, agreement) for name in stage.members},
        goes=next_one.by is not None and _says(next_one.value, lesson.truth, agreement),
        price=price,
        further=further,
    )


def _asked_alone(stage: Stage, lesson: Lesson, agreement: Agreement) -> CascadeResult:
    """What a stage says by itself."""
    run = Cascade([stage], agreement)
    for name in stage.members:
        _tell(run, name, lesson)
    result = run.advance()
    assert result is not None
    return result


def _tell(run: Cascade, name: str, lesson: Lesson) -> None:
    said = lesson.values([name])
    if said:
        tokens = lesson.answers[name].output_tokens
        run.answer(name, Answer(value=said[name], output_tokens=tokens))
    else:
        run.absent(name, "it gave no answer")


def _says(value: Any, truth: Any, agreement: Agreement) -> bool:
    return agreement.usable(value) and agreement.agree(value, truth)
