"""Is the next stage of a cascade worth its price? Learned from results whose answers are known.

Low confidence alone is no reason to go on: where the dearer member would be no better, its price is
lost. Two estimates are made from what can be seen before it is asked (subject, length of question
and answers, agreement): how likely the present answer is right, and how likely the next one would
be. The cascade goes on where the difference is large enough for what may be spent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from dragoman_agents.ensembles.fitting import climb, logistic

__all__ = [
    "Escalation",
    "Example",
    "Scorer",
    "fit_escalation",
    "fit_scorer",
    "observed",
    "with_budget",
]

RIDGE = 20.0
"""How strongly each number is drawn to 0: about as many labels as move it halfway."""
BIAS = "always"
AGREE = "agree"
LENGTHS = ("input", "output")
Features = Mapping[str, float]


class Scorer(Struct, frozen=True, kw_only=True):
    """How likely an answer is right, from features by name; plain data.

    Attributes:
        weights: Log-odds that each feature adds.
        scales: Mean and deviation of the features that are lengths.
    """

    weights: Mapping[str, float]
    scales: Mapping[str, tuple[float, float]] = {}

    def probability(self, features: Features) -> float:
        """Between 0 and 1; a feature that was never seen adds nothing."""
        return logistic(
            math.fsum(
                self.weights.get(name, 0.0) * value
                for name, value in _scaled(features, self.scales).items()
            )
        )


class Example(Struct, frozen=True, kw_only=True):
    """One labelled question as a stage saw it.

    Attributes:
        features: See ``observed``.
        stays: By member of the stage, whether its answer is right.
        goes: Whether the answer would be right after the next stage.
        price: Of the stage itself.
        further: What the next stage costs on top.
    """

    features: Features
    stays: Mapping[str, bool]
    goes: bool
    price: float
    further: float


class Escalation(Struct, frozen=True, kw_only=True):
    """When to go on.

    Attributes:
        stay: By member of the stage, how likely its answer is right.
        go: How likely the answer would be right after the next stage.
        least_gain: Difference from which on it is worth its price.
    """

    stay: Mapping[str, Scorer]
    go: Scorer
    least_gain: float

    def best(self, features: Features, members: Iterable[str] | None = None) -> tuple[str, float]:
        """The member whose answer is most likely right, and how likely.

        Args:
            features: What was observed.
            members: Those that have an answer; default: all.
        """
        chances = {
            member: scorer.probability(features)
            for member, scorer in self.stay.items()
            if members is None or member in members
        }
        member = max(chances, key=lambda name: chances[name])
        return member, chances[member]

    def gain(self, features: Features, members: Iterable[str] | None = None) -> float:
        """What going on adds to the probability of a right answer; may be below 0."""
        return self.go.probability(features) - self.best(features, members)[1]

    def worth(self, features: Features, members: Iterable[str] | None = None) -> bool:
        """Whether to ask the next stage."""
        return self.gain(features, members) > self.least_gain


def observed(
    *,
    agree: bool,
    subject: str = "",
    input_tokens: int | None = None,
    output_tokens: Mapping[str, int | None] | None = None,
) -> dict[str, float]:
    """What can be seen of a stage before the next one is asked, as features.

    Args:
        agree: Whether the stage's members agree.
        subject: What the question is about.
        input_tokens: How long it is.
        output_tokens: How long each member's answer is, by name.
    """
    seen = {BIAS: 1.0}
    if subject:
        seen[f"subject {subject}"] = 1.0
    if input_tokens is not None:
        seen["input"] = math.log1p(input_tokens)
    for member, tokens in (output_tokens or {}).items():
        if tokens is not None:
            seen[f"output {member}"] = math.log1p(tokens)
    if agree:
        seen |= {f"{name} {AGREE}": value for name, value in list(seen.items())}
    return seen


def fit_scorer(rows: Sequence[Features], right: Sequence[bool], *, ridge: float = RIDGE) -> Scorer:
    """Learn how likely answers are right.

    Raises:
        ValueError: nothing to learn from, or lists of different lengths.
    """
    if not rows or len(rows) != len(right):
        raise ValueError("as many rows as labels are needed, and at least one")
    scales = _scales(rows)
    names = sorted({name for row in rows for name in row})
    ranks = {name: rank for rank, name in enumerate(names)}
    data = [
        (tuple((ranks[name], value) for name, value in _scaled(row, scales).items()), float(label))
        for row, label in zip(rows, right, strict=True)
    ]
    ridges = [0.0 if name == BIAS else ridge for name in names]

    def gradient(at: list[float]) -> list[float]:
        slopes = [-pull * number for pull, number in zip(ridges, at, strict=True)]
        for row, label in data:
            miss = label - logistic(sum(at[rank] * value for rank, value in row))
            for rank, value in row:
                slopes[rank] += miss * value
        return slopes

    found = climb(gradient, [0.0] * len(names))
    return Scorer(weights=dict(zip(names, found, strict=True)), scales=scales)


def fit_escalation(
    examples: Sequence[Example], budget: float, *, ridge: float = RIDGE
) -> Escalation:
    """Learn when to go on, such that a question costs no more than ``budget`` on average.

    Where more is allowed than helps, less is spent: nobody is asked for no gain.

    Raises:
        ValueError: nothing to learn from.
    """
    rows = [example.features for example in examples]
    if not examples:
        raise ValueError("an escalation is learned from at least one example")
    learned = Escalation(
        stay={
            member: fit_scorer(
                rows, [example.stays.get(member, False) for example in examples], ridge=ridge
            )
            for member in examples[0].stays
        },
        go=fit_scorer(rows, [example.goes for example in examples], ridge=ridge),
        least_gain=0.0,
    )
    return with_budget(learned, examples, budget)


def with_budget(learned: Escalation, examples: Sequence[Example], budget: float) -> Escalation:
    """The same estimates for another budget."""
    gains = [learned.gain(example.features) for example in examples]
    left = budget * len(examples) - math.fsum(example.price for example in examples)
    for gain, example in sorted(zip(gains, examples, strict=True), key=lambda pair: -pair[0]):
        left -= example.further
        if left < 0:
            return structs.replace(learned, least_gain=max(0.0, gain))
    return structs.replace(learned, least_gain=0.0)


def _scales(rows: Sequence[Features]) -> dict[str, tuple[float, float]]:
    """Mean and deviation of every length, over the rows that have it."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(LENGTHS) and not name.endswith(AGREE):
                found.setdefault(name, []).append(value)
    scales = {}
    for name, values in found.items():
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        scales[name] = (mean, deviation or 1.0)
    return scales


def _scaled(features: Features, scales: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    scaled = {}
    for name, value in features.items():
        scale = scales.get(name.removesuffix(f" {AGREE}"))
        scaled[name] = value if scale is None else (value - scale[0]) / scale[1]
    return scaled
