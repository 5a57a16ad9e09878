"""When do two answers say the same? One small interface, and the usual ways to tell.

A way that is *transitive* sorts answers into classes: a vote over it may stop early. One that is
not (a tolerance, a judge) lets a late answer stand between two others, so nothing is certain
before the last one is in.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from dragoman_bus.protocol.canonical import canonical_json

__all__ = [
    "Agreement",
    "Exact",
    "Judged",
    "Keyed",
    "NormalizedText",
    "NumericTolerance",
    "RoundedNumber",
    "SchemaField",
    "Similarity",
    "as_number",
    "group",
    "normalize_text",
]

_MISSING = object()
_SPACE = re.compile(r"\s+")


class Agreement(Protocol):
    """Tells whether two answers say the same."""

    @property
    def transitive(self) -> bool:
        """Whether a = b and b = c always give a = c."""

    def usable(self, value: Any) -> bool:
        """Whether the answer can be compared at all; one that cannot counts as no answer."""

    def agree(self, first: Any, second: Any) -> bool:
        """Whether two usable answers say the same."""


class Keyed:
    """Answers agree when ``key`` gives the same for both; ``None`` cannot be compared."""

    transitive = True

    def __init__(self, key: Callable[[Any], Hashable | None]) -> None:
        self.key = key

    def usable(self, value: Any) -> bool:
        """Whether the answer has a key."""
        return self.key(value) is not None

    def agree(self, first: Any, second: Any) -> bool:
        """Whether the keys are equal."""
        return self.key(first) == self.key(second)


class Exact(Keyed):
    """The same JSON value, whatever the order of its members; ``None`` is no answer."""

    def __init__(self) -> None:
        super().__init__(lambda value: None if value is None else _canonical(value))


class NormalizedText(Keyed):
    """The same words: case, punctuation, width and spaces aside. Text that is empty then is none.

    Args:
        articles: Words that do not count.
    """

    def __init__(self, articles: Sequence[str] = ()) -> None:
        ignored = frozenset(articles)

        def key(value: Any) -> str | None:
            if value is None:
                return None
            words = normalize_text(value if isinstance(value, str) else _canonical(value)).split()
            return " ".join(word for word in words if word not in ignored) or None

        super().__init__(key)


class SchemaField:
    """The same in one member of an object, as another way judges it; others do not matter.

    Args:
        path: Names from the outside in, joined by dots: ``verdict.label``. A number picks from
            a list.
        within: How the members are compared; default: exactly.
    """

    def __init__(self, path: str, within: Agreement | None = None) -> None:
        self.path = path
        self.within: Agreement = within or Exact()

    @property
    def transitive(self) -> bool:
        """As the inner way is."""
        return self.within.transitive

    def usable(self, value: Any) -> bool:
        """Whether the member is there and can be compared."""
        found = self.pick(value)
        return found is not _MISSING and self.within.usable(found)

    def agree(self, first: Any, second: Any) -> bool:
        """Whether both members agree."""
        return self.within.agree(self.pick(first), self.pick(second))

    def pick(self, value: Any) -> Any:
        """The member, or a value that is not usable."""
        for name in self.path.split("."):
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            else:
                return _MISSING
        return value


class RoundedNumber(Keyed):
    """The same number on a grid of ``step``: transitive, so a vote may stop early.

    Two near numbers on both sides of a border differ; ``NumericTolerance`` has no borders.
    """

    def __init__(self, step: float) -> None:
        if not step > 0:
            raise ValueError("step is above 0")

        def key(value: Any) -> int | None:
            number = as_number(value)
            return None if number is None else round(number / step)

        super().__init__(key)


class NumericTolerance:
    """Numbers that differ by at most ``absolute``, or by ``relative`` of the larger one."""

    transitive = False

    def __init__(self, absolute: float = 0.0, relative: float = 0.0) -> None:
        if absolute < 0 or relative < 0:
            raise ValueError("a tolerance is at least 0")
        self.absolute = absolute
        self.relative = relative

    def usable(self, value: Any) -> bool:
        """Whether it is a finite number, or text that is one."""
        return as_number(value) is not None

    def agree(self, first: Any, second: Any) -> bool:
        """Whether they are near enough."""
        one, other = as_number(first), as_number(second)
        assert one is not None
        assert other is not None
        return math.isclose(one, other, rel_tol=self.relative, abs_tol=self.absolute)


class Similarity:
    """A measure from outside (embeddings, edit distance) that reaches ``threshold``."""

    transitive = False

    def __init__(self, measure: Callable[[Any, Any], float], threshold: float) -> None:
        self.measure = measure
        self.threshold = threshold

    def usable(self, value: Any) -> bool:
        """Every answer but none."""
        return value is not None

    def agree(self, first: Any, second: Any) -> bool:
        """Whether the measure reaches the threshold."""
        return self.measure(first, second) >= self.threshold


class Judged:
    """What a judge said of pairs: ask for ``open_pairs``, ``record`` the answers, then group.

    Equal answers need no judge. A pair that nobody judged does not agree.
    """

    transitive = False

    def __init__(self) -> None:
        self._said: dict[frozenset[bytes], bool] = {}

    def open_pairs(self, values: Sequence[Any]) -> list[tuple[Any, Any]]:
        """The pairs of these answers that differ and that nobody judged, each once."""
        pairs: dict[frozenset[bytes], tuple[Any, Any]] = {}
        for index, first in enumerate(values):
            for second in values[index + 1 :]:
                key = _pair(first, second)
                if len(key) == 2 and key not in self._said:
                    pairs.setdefault(key, (first, second))
        return list(pairs.values())

    def record(self, first: Any, second: Any, same: bool) -> None:
        """Keep what the judge said of a pair."""
        self._said[_pair(first, second)] = same

    def usable(self, value: Any) -> bool:
        """Every answer but none."""
        return value is not None

    def agree(self, first: Any, second: Any) -> bool:
        """Whether they are equal, or were judged to say the same."""
        key = _pair(first, second)
        return len(key) == 1 or self._said.get(key, False)


def group(values: Sequence[Any], agreement: Agreement) -> list[list[int]]:
    """Indexes of usable values in groups; each value joins the first group whose first agrees."""
    if isinstance(agreement, Keyed):
        keyed: dict[Hashable, list[int]] = {}
        for index, value in enumerate(values):
            key = agreement.key(value)
            if key is not None:
                keyed.setdefault(key, []).append(index)
        return list(keyed.values())
    groups: list[list[int]] = []
    for index, value in enumerate(values):
        if not agreement.usable(value):
            continue
        for members in groups:
            if agreement.agree(values[members[0]], value):
                members.append(index)
                break
        else:
            groups.append([index])
    return groups


def normalize_text(text: str) -> str:
    """Text in one spelling: NFKC, no case, no punctuation at word ends, single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = (_bare(word) for word in _SPACE.split(folded))
    return " ".join(word for word in words if word)


def as_number(value: Any) -> float | None:
    """A finite number, also one that is written as text; truth values are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value.replace(",", "").strip() if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _bare(word: str) -> str:
    """A word without punctuation around it; a sign or a decimal point of a number stays."""
    start, end = 0, len(word)
    while end > start and unicodedata.category(word[end - 1])[0] == "P" and word[end - 1] != "%":
        end -= 1
    while start < end and unicodedata.category(word[start])[0] == "P" and not _signs(word, start):
        start += 1
    return word[start:end]


def _signs(word: str, at: int) -> bool:
    return word[at] in "-." and word[at + 1 : at + 2].isdigit()


def _canonical(value: Any) -> str:
    return canonical_json(value).decode()


def _pair(first: Any, second: Any) -> frozenset[bytes]:
    return frozenset((canonical_json(first), canonical_json(second)))
