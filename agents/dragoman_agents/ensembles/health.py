"""What is known of each member's health, shared by all callers: cooldown, latency, success.

The kind of a failure alone decides. A caller's own impatience cools nobody; an exhausted account
cools for long; a bad request says nothing about who refused it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from msgspec import Struct, field

__all__ = ["LASTING", "Blame", "Health", "HealthBook", "blame_for"]

Blame = Literal["member", "request", "caller", "nobody"]
"""Whose fault a failure is: the member's (cool it), the request's (asking elsewhere may help or
not), the caller's limits (asking elsewhere cannot help), or nobody's (it was canceled)."""

SAMPLES = 128
"""How many recent latencies are kept per member."""
ENOUGH_SAMPLES = 8
FIRST_COOLDOWN_SECONDS = 5.0
LONGEST_COOLDOWN_SECONDS = 300.0
LONG_COOLDOWN_SECONDS = 300.0
"""For what time alone does not heal: keys, money, models that are gone."""

_BLAME: dict[str, Blame] = {
    "INVALID_INPUT": "request",
    "CONTRACT_MISMATCH": "request",
    "MODEL_INVALID": "request",
    "MODEL_CONTEXT_LENGTH": "request",
    "MODEL_REFUSED": "request",
    "PAYLOAD_TOO_LARGE": "request",
    "INVALID_OUTPUT": "request",
    "DELEGATION_LOOP": "request",
    "ABSTAINED": "request",
    "DEADLINE_EXCEEDED": "caller",
    "LIMIT_EXCEEDED": "caller",
    "FLOW_EXCEEDED": "caller",
    "INPUT_REQUIRED": "caller",
    "CANCELED": "nobody",
}
LASTING = frozenset({"MODEL_AUTH", "MODEL_QUOTA", "MODEL_UNAVAILABLE", "PERMISSION_DENIED"})
"""Codes of what a second try does not heal."""


def blame_for(code: str) -> Blame:
    """Whose fault an error with this code is; an unknown code blames the member."""
    return _BLAME.get(code, "member")


class Health(Struct):
    """One member: failures in a row, when it may be asked again, and how it did lately."""

    failures: int = 0
    cool_until: float = 0.0
    code: str | None = None
    asked: int = 0
    failed: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))


class HealthBook:
    """Health of members by name. Times are seconds of one monotonic clock, given by the caller.

    Args:
        patience: So many failures in a row are taken for bad luck. One that says when to come
            back, or that time does not heal, cools at once.
        first_cooldown: After the next failure; it doubles with each further one.
        longest_cooldown: Beyond this it does not grow.
    """

    def __init__(
        self,
        *,
        patience: int = 2,
        first_cooldown: float = FIRST_COOLDOWN_SECONDS,
        longest_cooldown: float = LONGEST_COOLDOWN_SECONDS,
    ) -> None:
        self.patience = patience
        self.first_cooldown = first_cooldown
        self.longest_cooldown = longest_cooldown
        self.members: dict[str, Health] = {}

    def of(self, member: str) -> Health:
        """The member's entry, made on first use."""
        return self.members.setdefault(member, Health())

    def succeeded(self, member: str, seconds: float) -> None:
        """It answered in so many seconds: it is healthy again."""
        entry = self.of(member)
        entry.asked += 1
        entry.failures = 0
        entry.cool_until = 0.0
        entry.code = None
        entry.latencies.append(seconds)

    def failed(self, member: str, code: str, now: float, retry_after: float | None = None) -> Blame:
        """It failed with this code; says whose fault that is, and cools the member if its own."""
        blame = blame_for(code)
        if blame in ("caller", "nobody"):
            return blame
        entry = self.of(member)
        entry.asked += 1
        if blame == "member":
            entry.failed += 1
            entry.failures += 1
            entry.code = code
            entry.cool_until = max(entry.cool_until, now + self._cooldown(entry, retry_after))
        return blame

    def is_cooling(self, member: str, now: float) -> bool:
        """Whether it should be left alone now."""
        entry = self.members.get(member)
        return entry is not None and entry.cool_until > now

    def recovers_in(self, member: str, now: float) -> float:
        """Seconds until it may be asked; 0 for now."""
        entry = self.members.get(member)
        return 0.0 if entry is None else max(0.0, entry.cool_until - now)

    def success_rate(self, member: str) -> float:
        """Of all calls so far, drawn towards 1 while there are few."""
        entry = self.members.get(member, Health())
        return (entry.asked - entry.failed + 1) / (entry.asked + 1)

    def latency(self, member: str, percentile: float = 0.5) -> float | None:
        """Seconds within which that part of recent answers came; ``None`` while there are few."""
        entry = self.members.get(member)
        if entry is None or len(entry.latencies) < ENOUGH_SAMPLES:
            return None
        ordered = sorted(entry.latencies)
        return ordered[min(len(ordered) - 1, math.ceil(percentile * len(ordered)) - 1)]

    def _cooldown(self, entry: Health, retry_after: float | None) -> float:
        if entry.code in LASTING:
            return max(LONG_COOLDOWN_SECONDS, retry_after or 0.0)
        if retry_after is not None:
            return retry_after
        beyond = entry.failures - self.patience - 1
        if beyond < 0:
            return 0.0
        return min(self.longest_cooldown, self.first_cooldown * 2.0 ** min(beyond, 30))
