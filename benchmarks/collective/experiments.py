"""Questions that are not rows: a member that lies, a router with few labels, a provider down."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from benchmarks.collective.cases import Case, Dataset
from benchmarks.collective.learning import Learned, qualities
from benchmarks.collective.statistics import percentile
from dragoman_agents.ensembles.admission import Labelled, vote_accuracy, voting_weights
from dragoman_agents.ensembles.failover import Ask, FailoverRun, GiveUp, Target
from dragoman_agents.ensembles.health import HealthBook
from dragoman_agents.ensembles.reputation import Reputation
from dragoman_agents.ensembles.routing import Candidate, Policy, Router, Wanted
from dragoman_agents.ensembles.weighting import fit_weights

__all__ = ["Failures", "Liar", "failover", "liar", "mean_liar", "routing_by_labels"]

OBSERVATIONS = 200
LIAR = "liar"
LABELS_PER_SUBJECT = (0, 2, 5, 10, 20, 50, 100, 200)


class Liar(Struct, frozen=True):
    """Accuracies of five members of whom one is always wrong, after 200 observations.

    Attributes:
        best: The best honest member.
        honest: The four honest ones, their weights learned from the same observations.
        equal: All five, one vote each: what it is without learning.
        labels: All five, weights learned from 200 labels.
        consensus: All five, weights learned from what the others say, without any label.
    """

    best: float
    honest: float
    equal: float
    labels: float
    consensus: float

    def kept(self, reached: float) -> float:
        """What part of the honest vote's gain is kept; 1 when there is no gain to lose."""
        gain = self.honest - self.best
        return (reached - self.best) / gain if gain > 0 else 1.0


def liar(
    dataset: Dataset, learned: Learned, train: Sequence[Case], test: Sequence[Case], seed: int
) -> Liar:
    """Four comparable members, the second to the fifth best, and one that knows how to be wrong.

    It gives the wrong answer that most of the others give, which does the most harm.
    """
    members = learned.ranked[1:5]
    chance = random.Random(seed)
    seen = [_with_liar(case, members, chance) for case in chance.sample(train, OBSERVATIONS)]
    asked = [_with_liar(case, members, chance) for case in test]
    five = [*members, LIAR]
    best = max(vote_accuracy(asked, {member: 1.0}) for member in members)
    honest = fit_weights(seen, members, choices=dataset.choices).weights()
    with_liar = fit_weights(seen, five, choices=dataset.choices).weights()
    reputation = Reputation(choices=dataset.choices)
    for question in seen:
        reputation.observe_consensus(
            {name: answer for name, answer in question.answers.items() if answer is not None}
        )
    return Liar(
        best=best,
        honest=vote_accuracy(asked, honest),
        equal=vote_accuracy(asked, dict.fromkeys(five, 1.0)),
        labels=vote_accuracy(asked, with_liar),
        consensus=vote_accuracy(asked, voting_weights(reputation, five)),
    )


def _with_liar(case: Case, members: Sequence[str], chance: random.Random) -> Labelled:
    answers = case.picks(members)
    wrong = Counter(pick for pick in answers.values() if pick not in (None, case.truth))
    lie = (
        wrong.most_common(1)[0][0]
        if wrong
        else chance.choice([letter for letter in "ABCDEFGHIJ" if letter != case.truth])
    )
    return Labelled({**answers, LIAR: lie}, case.truth)


def routing_by_labels(
    learned: Learned, train: Sequence[Case], test: Sequence[Case], seed: int
) -> dict[int, float]:
    """How much better than the best single member the router is, by labels for each subject.

    The operator named that member as the default; the router may leave it where labels prove
    another one better.
    """
    shuffled = list(train)
    random.Random(seed).shuffle(shuffled)
    single = sum(case.is_right(learned.best) for case in test) / len(test)
    candidates = [Candidate(name=name, price=price) for name, price in learned.prices.items()]
    gains = {}
    for count in LABELS_PER_SUBJECT:
        table = qualities(_first_of_each(shuffled, count), list(learned.prices))
        router = Router(Policy(default=learned.best), table)
        chosen = {
            subject: router.choose(candidates, Wanted(subject=subject)).name or learned.best
            for subject in {case.subject for case in test}
        }
        right = sum(case.is_right(chosen[case.subject]) for case in test) / len(test)
        gains[count] = right - single
    return gains


def _first_of_each(cases: Sequence[Case], count: int) -> list[Case]:
    taken: Counter[str] = Counter()
    kept = []
    for case in cases:
        if taken[case.subject] < count:
            taken[case.subject] += 1
            kept.append(case)
    return kept


class Failures(Struct, frozen=True):
    """What came of many tasks while one provider was down and another failed now and then.

    Attributes:
        tasks: How many.
        served: How many had an answer within the deadline.
        failures: How many calls failed on the way: survived, where the task was served.
        paid: How many tasks asked the provider that costs more, which nobody allowed.
        p50, p95, slowest: Seconds on the simulated clock.
    """

    tasks: int
    served: int
    failures: int
    paid: int
    p50: float
    p95: float
    slowest: float


def failover(tasks: int, seed: int, *, deadline: float = 30.0, arrivals: float = 2.0) -> Failures:
    """The first provider is down, the second fails every fifth call, the third costs more.

    Only stand-ins of the same price are allowed, so the third must never be asked.

    Args:
        tasks: How many, one after the other; health is shared by all.
        seed: Of chance.
        deadline: Seconds for each.
        arrivals: Tasks a second.
    """
    chance = random.Random(seed)
    book = HealthBook()
    targets = [Target("down", 1.0), Target("flaky", 1.0), Target("dear", 9.0)]
    seconds: list[float] = []
    failures = paid = 0
    now = 0.0
    for _ in range(tasks):
        now += chance.expovariate(arrivals)
        run = FailoverRun(targets, book, fallback="same_price", deadline=now + deadline)
        ended = _one_task(run, now, now + deadline, chance)
        failures += sum(attempt.code is not None for attempt in run.attempts)
        paid += any(attempt.target == "dear" for attempt in run.attempts)
        if ended is not None:
            seconds.append(ended - now)
    return Failures(
        tasks,
        len(seconds),
        failures,
        paid,
        percentile(seconds, 0.5),
        percentile(seconds, 0.95),
        max(seconds, default=0.0),
    )


def _one_task(run: FailoverRun, now: float, deadline: float, chance: random.Random) -> float | None:
    """When the answer came; ``None`` when none did in time."""
    while now < deadline:
        step = run.next(now)
        if isinstance(step, GiveUp):
            return None
        if not isinstance(step, Ask):
            now += step.seconds or 0.0
            continue
        run.started(step.target, now)
        if step.target == "down":
            now += 0.02
            run.failed(step.target, "MODEL_UNREACHABLE", now)
            continue
        now += 0.6 * chance.lognormvariate(0.0, 0.4)
        if step.target == "flaky" and chance.random() < 0.2:
            code = chance.choice(("MODEL_OVERLOADED", "MODEL_TIMEOUT", "MODEL_RATE_LIMITED"))
            wait = 1.0 if code == "MODEL_RATE_LIMITED" else None
            run.failed(step.target, code, now, wait)
        elif now <= deadline:
            run.succeeded(step.target, now)
            return now
    return None


def mean_liar(found: Sequence[Liar]) -> Liar:
    """The mean of several."""
    fields: Mapping[str, list[float]] = {
        name: [getattr(one, name) for one in found] for name in Liar.__struct_fields__
    }
    return Liar(**{name: sum(values) / len(values) for name, values in fields.items()})
