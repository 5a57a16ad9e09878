"""Lease arithmetic: who is alive at a given time, from renewals alone.

Spec: spec/nats-binding.md, registry. Times are seconds of any monotonic clock of the caller's.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["RENEWALS_PER_LEASE", "LeaseTable", "renewal_interval"]

Value = TypeVar("Value")

RENEWALS_PER_LEASE = 10 / 3
"""A holder renews this often per lease, every 3 seconds of 10: two lost renewals do no harm."""


def renewal_interval(lease_seconds: float) -> float:
    """Seconds between renewals of a lease."""
    return lease_seconds / RENEWALS_PER_LEASE


class LeaseTable(Generic[Value]):
    """Values that vanish unless they are renewed."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Value, float]] = {}
        self._order: list[tuple[float, str]] = []

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def __len__(self) -> int:
        return len(self._held)

    def renew(self, key: str, value: Value, lease_seconds: float, now: float) -> bool:
        """Hold ``value`` until ``now + lease_seconds``; whether the key is new."""
        is_new = key not in self._held
        expiry = now + lease_seconds
        self._held[key] = (value, expiry)
        heapq.heappush(self._order, (expiry, key))
        # Every renewal leaves an outdated row behind; without this a watcher of many agents
        # would grow for ever.
        if len(self._order) > 4 * len(self._held) + 64:
            self._order = [(until, name) for name, (_, until) in self._held.items()]
            heapq.heapify(self._order)
        return is_new

    def release(self, key: str) -> Value | None:
        """Let go of a key at once (goodbye); its value if it was held."""
        held = self._held.pop(key, None)
        return held[0] if held else None

    def expire(self, now: float) -> list[tuple[str, Value]]:
        """Remove and return what has expired by ``now``, oldest first."""
        gone: list[tuple[str, Value]] = []
        while self._order and self._order[0][0] <= now:
            _, key = heapq.heappop(self._order)
            held = self._held.get(key)
            if held is not None and held[1] <= now:
                del self._held[key]
                gone.append((key, held[0]))
        return gone

    def next_expiry(self) -> float | None:
        """The earliest time at which ``expire`` may have something to return."""
        return self._order[0][0] if self._order else None

    def get(self, key: str) -> Value | None:
        """The value held under ``key``."""
        held = self._held.get(key)
        return held[0] if held else None

    def values(self) -> Iterator[Value]:
        """All values held."""
        return iter([value for value, _ in self._held.values()])

    def keys(self) -> list[str]:
        """All keys held."""
        return list(self._held)
