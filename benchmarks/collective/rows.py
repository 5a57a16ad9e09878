"""The rows of the report: which ensembles are compared, and how each is made."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from benchmarks.collective.learning import CASCADE_BUDGET, Learned
from benchmarks.collective.policies import (
    Decide,
    cascading,
    equal,
    oracle,
    pooled,
    routing,
    single,
    stages_of,
    voting,
)
from dragoman_agents.ensembles.routing import Policy

__all__ = ["ROWS", "SINGLE", "Row"]

SINGLE = "single"
NEAR = 0.05
"""How far below the best a cheaper member may be for the router that saves."""
Make = Callable[[Learned, int], Decide]


class Row(Struct, frozen=True):
    """One line.

    Attributes:
        key: For programs.
        title: For people.
        make: From what was learned and the number of choices.
        by_bus: Whether the same is run as agents on the bus.
    """

    key: str
    title: str
    make: Make
    by_bus: bool = True


ROWS = (
    Row(SINGLE, "best single model", lambda learned, _: single(learned.best)),
    Row(
        "naive_all",
        "vote of all, equal weights",
        lambda learned, n: voting(learned.ranked, equal(learned.ranked), choices=n),
    ),
    Row(
        "equal_four",
        "vote of the four best, equal weights",
        lambda learned, n: voting(learned.ranked[:4], equal(learned.ranked[:4]), choices=n),
    ),
    Row(
        "pool_full",
        "admitted pool, all asked",
        lambda learned, n: voting(learned.pool.members, learned.pool.weights.weights, choices=n),
    ),
    Row(
        "pool",
        "admitted pool, asked as needed (early stop)",
        lambda learned, n: pooled(learned.pool, n),
    ),
    Row(
        "all_learned",
        "all, weights learned together, as needed",
        lambda learned, n: pooled(learned.everybody, n),
    ),
    Row(
        "abstain",
        "admitted pool, abstains when not sure",
        lambda learned, n: pooled(learned.pool, n, minimum_confidence=learned.minimum_confidence),
    ),
    Row(
        "agreement_cascade",
        "cascade: two cheap ones agree, else the best",
        lambda learned, _: cascading(stages_of(learned)) if learned.pair else single(learned.best),
    ),
    Row(
        "cascade",
        "cascade, learned where to go on",
        lambda learned, _: _learned_cascade(learned, CASCADE_BUDGET),
    ),
    Row(
        "cascade_rich",
        "the same cascade, at the best single's price",
        lambda learned, _: _learned_cascade(learned, 1.0),
    ),
    Row(
        "router",
        "router by subject",
        lambda learned, _: routing(learned, Policy(default=learned.best)),
    ),
    Row(
        "router_cheap",
        "router, cheapest within 5 points",
        lambda learned, _: routing(learned, Policy(default=learned.best, within=NEAR)),
    ),
    Row(
        "oracle_pool",
        "oracle of the pool (nobody can)",
        lambda learned, _: oracle(learned.pool.members),
        False,
    ),
    Row(
        "oracle_all", "oracle of all (nobody can)", lambda learned, _: oracle(learned.ranked), False
    ),
)


def _learned_cascade(learned: Learned, part: float) -> Decide:
    if learned.pair is None:
        return single(learned.best)
    return cascading(stages_of(learned), learned.escalations[part])
