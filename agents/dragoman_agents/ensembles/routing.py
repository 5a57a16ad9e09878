"""Which member gets the task: hard requirements first, then quality against price and latency.

Quality is learned per subject and drawn towards each member's overall quality while labels are
few; a member replaces the best single one only when it is credibly better, or credibly as good and
preferred by the policy. Chance comes in as a number, so a choice can be repeated.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from msgspec import Struct

__all__ = ["Candidate", "Choice", "Considered", "Policy", "QualityTable", "Router", "Wanted"]

PRIOR_STRENGTH = 10.0
SUBJECT_STRENGTH = 40.0
"""For how many labels a member's overall quality counts in each subject."""
STICKY_CONTEXTS = 10_000


class Candidate(Struct, frozen=True, kw_only=True):
    """What is known of a member now; ``None`` is unknown.

    Attributes:
        name: The agent.
        price: Expected cost of this task, in the currency that all candidates share.
        latency: Seconds it usually takes.
        success: Part of its calls that succeed.
        load: Part of its slots that are taken; above 1 when tasks wait.
        capabilities: What it can do (``tools``, ``json_schema``, ``image``, a contract's digest).
        context_window: In tokens.
        healthy: False while it cools down or drains.
        canary: Part of all contexts that go to it whatever the policy says; 0 for none.
    """

    name: str
    price: float | None = None
    latency: float | None = None
    success: float = 1.0
    load: float = 0.0
    capabilities: frozenset[str] = frozenset()
    context_window: int | None = None
    healthy: bool = True
    canary: float = 0.0


class Wanted(Struct, frozen=True, kw_only=True):
    """What a task needs: capabilities, room in the context, and at most so much money and time."""

    subject: str = ""
    capabilities: frozenset[str] = frozenset()
    tokens: int = 0
    max_price: float | None = None
    max_latency: float | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """What counts how much. Quality is between 0 and 1; the others say what they are worth in it.

    Attributes:
        price_weight: How much quality one unit of money is worth.
        latency_weight: How much quality one second is worth.
        load_weight: How much quality a full member loses.
        within: Among members at most so far below the best quality, the cheapest is taken;
            0 leaves price to ``price_weight``.
        default: The member to rely on while nothing speaks for another. Without it, the one that
            is best so far, which few labels cannot tell.
        caution: By how many standard errors a member must be better than the best single one.
    """

    price_weight: float = 0.0
    latency_weight: float = 0.0
    load_weight: float = 0.0
    within: float = 0.0
    default: str | None = None
    caution: float = 1.5


class Considered(Struct, frozen=True):
    """One candidate as the receipt tells it: its score, or why it was out of the question."""

    name: str
    score: float | None
    why: str


class Choice(Struct, frozen=True, kw_only=True):
    """The chosen member (``None`` when nobody can), why, and everybody who was considered."""

    name: str | None
    reason: str
    considered: tuple[Considered, ...]

    @property
    def order(self) -> tuple[str, ...]:
        """The chosen one, then the other possible ones, best first: whom to fall back on."""
        possible = [one for one in self.considered if one.score is not None]
        rest = sorted(possible, key=lambda one: -(one.score or 0.0))
        names = [one.name for one in rest if one.name != self.name]
        return tuple(names) if self.name is None else (self.name, *names)


class QualityTable:
    """Labelled results per member and subject."""

    def __init__(self, *, prior: float = 0.6) -> None:
        self.prior = prior
        self._counts: dict[tuple[str, str], list[float]] = {}

    def observe(self, member: str, subject: str, right: bool | float) -> None:
        """Count one labelled result, for the subject and for the member as a whole."""
        for key in {(member, subject), (member, "")}:
            count = self._counts.setdefault(key, [0.0, 0.0])
            count[0] += float(right)
            count[1] += 1

    def replace(self, tallies: Mapping[tuple[str, str], tuple[float, float]]) -> None:
        """Take over what was learned elsewhere: right and seen, by member and subject.

        The empty subject is that of tasks whose subject nobody said; all count for the member as
        a whole.
        """
        self._counts = {}
        for (member, subject), (right, seen) in tallies.items():
            for key in {(member, subject), (member, "")}:
                count = self._counts.setdefault(key, [0.0, 0.0])
                count[0] += right
                count[1] += seen

    def tallies(self) -> dict[tuple[str, str], tuple[float, float]]:
        """What ``replace`` takes: right and seen, by member and subject.

        Where subjects are known, the sums over all of them are left out: they follow.
        """
        named = {member for member, subject in self._counts if subject}
        return {
            (member, subject): (count[0], count[1])
            for (member, subject), count in self._counts.items()
            if subject or member not in named
        }

    def overall(self, member: str) -> float:
        """Expected quality over all subjects."""
        right, seen = self._counts.get((member, ""), (0.0, 0.0))
        return (right + self.prior * PRIOR_STRENGTH) / (seen + PRIOR_STRENGTH)

    def quality(self, member: str, subject: str = "") -> float:
        """Expected quality in a subject, drawn towards the overall one while labels are few."""
        if not subject:
            return self.overall(member)
        right, seen = self._counts.get((member, subject), (0.0, 0.0))
        return (right + self.overall(member) * SUBJECT_STRENGTH) / (seen + SUBJECT_STRENGTH)

    def error(self, member: str, subject: str = "") -> float:
        """The standard error of that expectation."""
        rate = self.quality(member, subject)
        strength = SUBJECT_STRENGTH if subject else PRIOR_STRENGTH
        seen = self._counts.get((member, subject), (0.0, 0.0))[1]
        return math.sqrt(rate * (1 - rate) / (seen + strength))


class Router:
    """Chooses among candidates and remembers which context went where.

    Args:
        policy: What counts how much.
        qualities: What was learned.
    """

    def __init__(self, policy: Policy | None = None, qualities: QualityTable | None = None) -> None:
        self.policy = policy or Policy()
        self.qualities = qualities or QualityTable()
        self._sticky: OrderedDict[str, str] = OrderedDict()

    def choose(
        self,
        candidates: Sequence[Candidate],
        wanted: Wanted | None = None,
        *,
        context: str | None = None,
        draw: float = 1.0,
    ) -> Choice:
        """Choose one.

        Args:
            candidates: Who could.
            wanted: What the task needs.
            context: Tasks of one context go to the same member as long as it can take them.
            draw: A random number in [0, 1) that decides about canaries; 1 leaves them out.
        """
        needs = wanted or Wanted()
        reasons = {one.name: _obstacle(one, needs) for one in candidates}
        possible = [one for one in candidates if reasons[one.name] is None]
        scores = self._scores(possible, needs.subject)
        name, reason = self._pick(possible, scores, needs.subject, context, draw)
        if name is not None and context is not None:
            self.remember(context, name)
        considered = tuple(
            Considered(one.name, scores.get(one.name), reasons[one.name] or "possible")
            for one in candidates
        )
        return Choice(name=name, reason=reason, considered=considered)

    def _pick(
        self,
        possible: Sequence[Candidate],
        scores: Mapping[str, float],
        subject: str,
        context: str | None,
        draw: float,
    ) -> tuple[str | None, str]:
        if not possible:
            return None, "no member can take the task"
        kept = None if context is None else self._sticky.get(context)
        if kept in scores:
            return kept, "the context is with it already"
        for one in possible:
            if draw < one.canary:
                return one.name, f"canary: {one.canary:.0%} of all contexts"
            draw -= one.canary
        stable = [one for one in possible if one.canary == 0] or list(possible)
        return self._by_policy(stable, scores, subject)

    def _by_policy(
        self, possible: Sequence[Candidate], scores: Mapping[str, float], subject: str
    ) -> tuple[str, str]:
        single = self._single(possible)
        best = max(possible, key=lambda one: scores[one.name])
        if best is not single and not self._is_credible(best, single, scores, subject):
            best = single
        if self.policy.within > 0:
            near = [one for one in possible if self._is_near(one, best, subject)]
            cheapest = min(near, key=lambda one: math.inf if one.price is None else one.price)
            if (cheapest.price or 0.0) < (math.inf if best.price is None else best.price):
                return cheapest.name, f"cheapest within {self.policy.within:.0%} of {best.name}"
        if best is single:
            return best.name, "best single member"
        return best.name, f"better than {single.name} for {subject or 'this policy'}"

    def _single(self, possible: Sequence[Candidate]) -> Candidate:
        """The best single member, or the default one while that is not credibly worse."""
        table = self.qualities
        best = max(possible, key=lambda one: table.overall(one.name) * one.success)
        for one in possible:
            if one.name == self.policy.default and one is not best:
                noise = math.hypot(table.error(one.name), table.error(best.name))
                lead = table.overall(best.name) * best.success
                lead -= table.overall(one.name) * one.success
                return best if lead > self.policy.caution * noise else one
        return best

    def _scores(self, possible: Sequence[Candidate], subject: str) -> dict[str, float]:
        policy = self.policy
        prices = [one.price for one in possible if one.price is not None]
        slowest = max((one.latency for one in possible if one.latency is not None), default=0.0)
        # What is unknown is taken for the worst that is known: ignorance is no advantage.
        dearest = max(prices, default=0.0)
        return {
            one.name: self.qualities.quality(one.name, subject) * one.success
            - policy.price_weight * (dearest if one.price is None else one.price)
            - policy.latency_weight * (slowest if one.latency is None else one.latency)
            - policy.load_weight * one.load
            for one in possible
        }

    def _is_credible(
        self, one: Candidate, single: Candidate, scores: Mapping[str, float], subject: str
    ) -> bool:
        """Whether its lead is more than the noise in what was learned."""
        table = self.qualities
        noise = math.hypot(table.error(one.name, subject), table.error(single.name, subject))
        return scores[one.name] - scores[single.name] > self.policy.caution * noise

    def _is_near(self, one: Candidate, best: Candidate, subject: str) -> bool:
        table = self.qualities
        low = table.quality(one.name, subject) - self.policy.caution * table.error(
            one.name, subject
        )
        return one is best or low >= table.quality(best.name, subject) - self.policy.within

    def remember(self, context: str, name: str) -> None:
        """Send a context where it went before."""
        self._sticky[context] = name
        self._sticky.move_to_end(context)
        while len(self._sticky) > STICKY_CONTEXTS:
            self._sticky.popitem(last=False)


def _obstacle(one: Candidate, wanted: Wanted) -> str | None:
    """Why the candidate cannot take the task, or ``None``."""
    missing = wanted.capabilities - one.capabilities
    if missing:
        return f"lacks {', '.join(sorted(missing))}"
    if one.context_window is not None and wanted.tokens > one.context_window:
        return f"its context holds {one.context_window} tokens of {wanted.tokens}"
    if wanted.max_price is not None and (one.price is None or one.price > wanted.max_price):
        return "its price is unknown" if one.price is None else f"costs {one.price:g}"
    if wanted.max_latency is not None and (one.latency or 0.0) > wanted.max_latency:
        return f"takes {one.latency:g} s"
    return None if one.healthy else "cools down or leaves"
