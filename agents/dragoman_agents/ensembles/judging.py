"""Judges compare answers in pairs, each pair in both orders, and none judges its own answer.

A judge that prefers what it reads first contradicts itself when the order is turned; such a pair
counts as a draw, and the contradictions are counted so that the bias is seen.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

__all__ = ["Comparison", "Panel", "Preference", "Ranking", "panel_score"]

Preference = Literal["first", "second", "tie"]


class Comparison(Struct, frozen=True):
    """One question to one judge: which of two candidates, read in this order, is better?"""

    judge: str
    first: str
    second: str


class Ranking(Struct, frozen=True, kw_only=True):
    """Candidates from best to worst.

    Attributes:
        order: Names; equals keep the order in which they were given.
        points: Won pairs, a draw being half of one, per judge and pair that was judged.
        tied: Whether the first two have the same points.
        inconsistent: Per judge, the part of its pairs in which turning the order turned the
            preference: 0 is a judge without position bias.
    """

    order: tuple[str, ...]
    points: Mapping[str, float]
    tied: bool
    inconsistent: Mapping[str, float]


class Panel:
    """Judges and candidates.

    Args:
        judges: Who compares.
        candidates: What is compared, by name; the name of whoever wrote it.
        own: Which candidates each judge wrote, apart from those of its own name.
    """

    def __init__(
        self,
        judges: Sequence[str],
        candidates: Sequence[str],
        *,
        own: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self.judges = tuple(judges)
        self.candidates = tuple(candidates)
        self._own = own or {}
        self._said: dict[Comparison, Preference] = {}

    def comparisons(self) -> list[Comparison]:
        """Everything to ask: each pair twice, once in each order."""
        return [
            Comparison(judge, *order)
            for judge in self.judges
            for pair in itertools.combinations(self.candidates, 2)
            if not self._is_partial(judge, pair)
            for order in (pair, pair[::-1])
        ]

    def record(self, comparison: Comparison, preference: Preference) -> None:
        """Keep what a judge said."""
        self._said[comparison] = preference

    def ranking(self) -> Ranking:
        """Who won; a pair counts once both orders were judged."""
        points: dict[str, float] = dict.fromkeys(self.candidates, 0.0)
        judged: defaultdict[str, int] = defaultdict(int)
        turned: defaultdict[str, int] = defaultdict(int)
        for judge in self.judges:
            for one, other in itertools.combinations(self.candidates, 2):
                there = self._said.get(Comparison(judge, one, other))
                back = self._said.get(Comparison(judge, other, one))
                if there is None or back is None:
                    continue
                judged[judge] += 1
                turned[judge] += there == back != "tie"
                share = _share_of_first(there, back)
                points[one] += share
                points[other] += 1 - share
        order = sorted(self.candidates, key=lambda name: -points[name])
        return Ranking(
            order=tuple(order),
            points=points,
            tied=len(order) > 1 and points[order[0]] == points[order[1]],
            inconsistent={judge: turned[judge] / judged[judge] for judge in judged},
        )

    def _is_partial(self, judge: str, pair: tuple[str, str]) -> bool:
        return judge in pair or not self._own.get(judge, frozenset()).isdisjoint(pair)


def panel_score(scores: Mapping[str, float], *, least: int = 1) -> float | None:
    """One score of several judges: their median, which one judge cannot move far.

    ``None`` when fewer than ``least`` judges gave one.
    """
    return statistics.median(scores.values()) if len(scores) >= least else None


def _share_of_first(there: Preference, back: Preference) -> float:
    """What the pair's first candidate gets of its point; ``back`` was read in the other order."""
    value = {"first": 1.0, "tie": 0.5, "second": 0.0}
    # A win in one order and a draw in the other is a lean, kept as such.
    return (value[there] + 1 - value[back]) / 2
