"""All that is learned, from the training part alone: who is best, who votes, what is worth asking.

Every rule is the ensembles' own; this module only feeds them.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from benchmarks.collective.cases import Case, Dataset, labelled
from dragoman_agents.ensembles.admission import Labelled, admit
from dragoman_agents.ensembles.calibration import Calibrator, threshold_for
from dragoman_agents.ensembles.cascade import choose_pair
from dragoman_agents.ensembles.escalation import (
    Escalation,
    Example,
    fit_escalation,
    observed,
    with_budget,
)
from dragoman_agents.ensembles.ordering import ask_order
from dragoman_agents.ensembles.reputation import Reputation
from dragoman_agents.ensembles.routing import QualityTable
from dragoman_agents.ensembles.weighting import JointWeights, fit_weights

__all__ = ["Learned", "Voting", "learn", "qualities"]

POOL_MARGIN = 0.25
"""Members that far below the best may still help a vote whose weights are learned together."""
LARGEST_POOL = 6
PRECISION = 0.905
"""What the abstaining vote aims at on the training part; the goal is 0.9 on the other."""
CASCADE_BUDGET = 0.54
BUDGETS = (CASCADE_BUDGET, 1.0)
"""Of cascades, as parts of the best single member's price; the goal is 0.55 on the other part."""
PARTS = 4
"""Confidences are learned from questions that the weights behind them were not learned from."""


class Voting(Struct):
    """A vote: who, with what weights, in what order they are asked."""

    members: tuple[str, ...]
    weights: JointWeights
    order: tuple[str, ...]


class Learned(Struct):
    """What the training part taught.

    Attributes:
        best: The best single member.
        ranked: All members by accuracy.
        prices: Mean price of each member's answer.
        pool, everybody: Votes of the admitted members, and of all that there are.
        minimum_confidence: Below it the abstaining vote gives no answer.
        calibrator: From a vote's confidence to how often it is right.
        pair: The first stage of the cascade; absent when no two members are cheap enough.
        escalations: When it goes on, by what it may spend as a part of the best single's price.
        qualities: For the router.
    """

    best: str
    ranked: tuple[str, ...]
    prices: dict[str, float]
    pool: Voting
    everybody: Voting
    minimum_confidence: float
    calibrator: Calibrator
    pair: tuple[str, str] | None
    escalations: dict[float, Escalation]
    qualities: QualityTable


def learn(dataset: Dataset, train: Sequence[Case]) -> Learned:
    """Learn everything from these questions."""
    models = list(dataset.models)
    known = labelled(train, models)
    reputation = Reputation(choices=dataset.choices)
    for question in known:
        reputation.observe_labelled(question.answers, question.truth)
    ranked = tuple(sorted(models, key=lambda model: -reputation.accuracy(model)))
    best = ranked[0]
    prices = {
        model: sum(case.replies[model].price for case in train) / len(train) for model in models
    }
    admitted = admit(reputation, models, margin=POOL_MARGIN)[:LARGEST_POOL]
    pool = _voting(admitted, known, prices, dataset.choices)
    confidences, right = _honest_confidences(admitted, known, dataset.choices)
    threshold = threshold_for(PRECISION, confidences, right)
    pair = choose_pair(known, prices, best)
    return Learned(
        best=best,
        ranked=ranked,
        prices=prices,
        pool=pool,
        everybody=_voting(ranked, known, prices, dataset.choices),
        minimum_confidence=max(confidences) if threshold is None else threshold,
        calibrator=Calibrator.fit(confidences, right),
        pair=pair,
        escalations={} if pair is None else _escalations(train, pair, best, prices[best]),
        qualities=qualities(train, models),
    )


def _escalations(
    train: Sequence[Case], pair: tuple[str, str], last: str, price: float
) -> dict[float, Escalation]:
    """When a cascade of these two and the last one goes on, for each budget."""
    examples = [_example(case, pair, last) for case in train]
    learned = fit_escalation(examples, price)
    return {part: with_budget(learned, examples, part * price) for part in BUDGETS}


def qualities(train: Sequence[Case], models: Sequence[str]) -> QualityTable:
    """The router's table."""
    table = QualityTable()
    for case in train:
        for model in models:
            table.observe(model, case.subject, case.is_right(model))
    return table


def _voting(
    members: Sequence[str], known: Sequence[Labelled], prices: dict[str, float], choices: int
) -> Voting:
    weights = fit_weights(known, members, choices=choices)
    order = ask_order(
        [question.answers for question in known],
        lambda index: weights.weights(known[index].subject),
        {member: prices[member] for member in members},
    )
    return Voting(tuple(members), weights, order)


def _honest_confidences(
    members: Sequence[str], known: Sequence[Labelled], choices: int
) -> tuple[list[float], list[bool]]:
    """Of votes over questions that their weights were not learned from."""
    confidences, right = [], []
    for part in range(PARTS):
        rest = [question for at, question in enumerate(known) if at % PARTS != part]
        weights = fit_weights(rest, members, choices=choices)
        for question in known[part::PARTS]:
            answers = {member: question.answers[member] for member in members}
            confidences.append(weights.confidence(answers, question.subject))
            right.append(_winner(answers, weights.weights(question.subject)) == question.truth)
    return confidences, right


def _winner(answers: dict[str, object], weights: dict[str, float]) -> object:
    votes: dict[object, float] = {}
    for member, answer in answers.items():
        if answer is not None:
            votes[answer] = votes.get(answer, 0.0) + weights[member]
    return max(votes, key=lambda answer: votes[answer], default=None)


def _example(case: Case, pair: tuple[str, str], last: str) -> Example:
    first, second = (case.replies[name] for name in pair)
    return Example(
        features=observed(
            agree=first.pick is not None and first.pick == second.pick,
            subject=case.subject,
            input_tokens=case.sent_tokens,
            output_tokens={name: case.replies[name].output_tokens for name in pair},
        ),
        stays={name: case.is_right(name) for name in pair},
        goes=case.is_right(last),
        price=first.price + second.price,
        further=case.replies[last].price,
    )
