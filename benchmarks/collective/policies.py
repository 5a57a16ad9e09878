"""What each ensemble does with a question, decided by the pure cores on a simulated clock.

The same decisions are made over the bus in ``bus.py``; there the ensembles are agents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from benchmarks.collective.cases import Case
from benchmarks.collective.learning import Learned, Voting
from dragoman_agents.ensembles.cascade import Answer, Cascade, Stage
from dragoman_agents.ensembles.escalation import Escalation
from dragoman_agents.ensembles.routing import Candidate, Policy, Router, Wanted
from dragoman_agents.ensembles.votes import Vote, Voter, VoteRule

__all__ = [
    "Decide",
    "Outcome",
    "cascading",
    "equal",
    "oracle",
    "pooled",
    "routing",
    "single",
    "stages_of",
    "voting",
]


class Outcome(Struct, frozen=True):
    """How a question ended.

    Attributes:
        value: The answer; ``None`` for none.
        price: Of all members that were asked, in US dollars.
        seconds: On the simulated clock.
        asked: How many members.
        confidence: How likely the leading answer is right, where somebody says so.
    """

    value: str | None
    price: float
    seconds: float
    asked: int
    confidence: float | None = None


Decide = Callable[[Case], Outcome]


def single(model: str) -> Decide:
    """One model alone."""

    def decide(case: Case) -> Outcome:
        reply = case.replies[model]
        return Outcome(reply.pick, reply.price, reply.seconds, 1)

    return decide


def oracle(models: Sequence[str]) -> Decide:
    """Right whenever any model is, at the price of all: nobody can do this."""

    def decide(case: Case) -> Outcome:
        right = next((model for model in models if case.is_right(model)), models[0])
        replies = [case.replies[model] for model in models]
        return Outcome(
            case.replies[right].pick,
            sum(reply.price for reply in replies),
            max(reply.seconds for reply in replies),
            len(models),
        )

    return decide


def equal(models: Sequence[str]) -> Callable[[str], dict[str, float]]:
    """One vote for each model."""
    return lambda _: dict.fromkeys(models, 1.0)


def voting(
    members: Sequence[str],
    weigh: Callable[[str], Mapping[str, float]],
    *,
    choices: int,
    order: Sequence[str] | None = None,
    minimum_confidence: float = 0.0,
) -> Decide:
    """A vote.

    Args:
        members: Who votes; the first of them wins a tie.
        weigh: Their weights in a subject.
        choices: How many answers there are.
        order: Ask as few as the verdict needs, in this order; ``None`` asks all.
        minimum_confidence: Below it there is no answer.
    """
    rule = VoteRule(choices=choices, minimum_confidence=minimum_confidence)

    def decide(case: Case) -> Outcome:
        weights = weigh(case.subject)
        vote = Vote([Voter(member, weights[member]) for member in members], rule)
        price = seconds = 0.0
        asked = 0
        # Whose word counts nothing is not paid for, also where all are asked.
        counted = tuple(member for member in members if weights[member] > 0)
        while wave := vote.next_to_ask(order) if order is not None else counted:
            replies = {member: case.replies[member] for member in wave}
            for member, reply in replies.items():
                vote.cast(member, reply.pick)
            price += sum(reply.price for reply in replies.values())
            seconds += max(reply.seconds for reply in replies.values())
            asked += len(wave)
            counted = ()
        verdict = vote.verdict()
        return Outcome(verdict.value, price, seconds, asked, verdict.confidence)

    return decide


def pooled(learned: Voting, choices: int, **options: float) -> Decide:
    """A learned vote that asks as few as it needs."""
    return voting(
        learned.members,
        learned.weights.weights,
        choices=choices,
        order=learned.order,
        **options,
    )


def stages_of(learned: Learned) -> list[Stage]:
    """Two cheap ones, then the best."""
    assert learned.pair is not None
    return [Stage(members=learned.pair), Stage(members=(learned.best,))]


def cascading(stages: Sequence[Stage], escalation: Escalation | None = None) -> Decide:
    """A cascade."""
    escalations = [] if escalation is None else [escalation]

    def decide(case: Case) -> Outcome:
        cascade = Cascade(
            stages,
            escalations=escalations,
            subject=case.subject,
            input_tokens=case.sent_tokens,
        )
        price = seconds = 0.0
        asked = 0
        while cascade.result is None:
            replies = {member: case.replies[member] for member in cascade.to_ask}
            for member, reply in replies.items():
                cascade.answer(member, Answer(value=reply.pick, output_tokens=reply.output_tokens))
            price += sum(reply.price for reply in replies.values())
            seconds += max(reply.seconds for reply in replies.values())
            asked += len(replies)
            cascade.advance()
        return Outcome(cascade.result.value, price, seconds, asked)

    return decide


def routing(learned: Learned, policy: Policy) -> Decide:
    """One member per subject, as the router chooses."""
    router = Router(policy, learned.qualities)
    candidates = [Candidate(name=name, price=price) for name, price in learned.prices.items()]
    chosen: dict[str, str] = {}

    def decide(case: Case) -> Outcome:
        if case.subject not in chosen:
            name = router.choose(candidates, Wanted(subject=case.subject)).name
            assert name is not None
            chosen[case.subject] = name
        return single(chosen[case.subject])(case)

    return decide
