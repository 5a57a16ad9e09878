"""Whom to ask next when one does not answer, without ever spending money that nobody allowed.

One ``FailoverRun`` per task; the ``HealthBook`` is shared by all. The run says what to do now;
the caller does it and tells what came of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from dragoman_agents.ensembles.health import LASTING, HealthBook

__all__ = [
    "Ask",
    "Attempt",
    "FailoverRun",
    "Fallback",
    "GiveUp",
    "Target",
    "Wait",
    "may_fall_back",
]

Fallback = Literal["none", "same_price", "free_only", "any"]
"""What a fallback may cost: there is none; no more than the first choice; nothing; anything."""


class Target(Struct, frozen=True):
    """Who can be asked, and what it costs: per call or per token, but the same for all.

    A price of ``None`` is unknown: it is neither free nor the same as any other.
    """

    name: str
    price: float | None = None


class Attempt(Struct, frozen=True):
    """One call that was made, and what came of it; ``code`` is ``None`` for the winner."""

    target: str
    code: str | None
    seconds: float


class Ask(Struct, frozen=True):
    """Ask this target now; ``hedge`` when another one is still working on it."""

    target: str
    why: str
    hedge: bool = False


class Wait(Struct, frozen=True):
    """Do nothing until something comes in, or so many seconds have passed (``None``: for ever)."""

    seconds: float | None


class GiveUp(Struct, frozen=True):
    """Nobody is left. ``retry_after``: when the first of them may be asked again."""

    why: str
    code: str
    attempts: tuple[Attempt, ...]
    retry_after: float | None = None


Step = Ask | Wait | GiveUp

FIRST_PAUSE_SECONDS = 0.05
"""Before a target is asked again within one task; it doubles each time."""
LONGEST_PAUSE_SECONDS = 2.0


def may_fall_back(policy: Fallback, first: Target, other: Target) -> bool:
    """Whether the policy lets ``other`` stand in for ``first``; an unknown price is not free."""
    if policy == "any":
        return True
    if policy == "none" or other.price is None:
        return False
    if policy == "free_only":
        return other.price == 0
    return first.price is not None and other.price <= first.price


class FailoverRun:
    """One task's way through the targets.

    Args:
        targets: Whom to ask, in order of preference; the first one sets the price.
        book: Health of all targets.
        fallback: What a stand-in may cost.
        hedge_percentile: After so much of the usual latency a second target is asked as well;
            ``None`` never does. A hedge obeys ``fallback`` too.
        attempts_per_target: How often one target is asked at most.
        deadline: When the task ends, on the same clock as ``now``.
        preferred: Who should answer and is not there: it sets the price instead of the first.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        book: HealthBook,
        *,
        fallback: Fallback = "same_price",
        hedge_percentile: float | None = None,
        attempts_per_target: int = 8,
        deadline: float | None = None,
        preferred: Target | None = None,
    ) -> None:
        if not targets:
            raise ValueError("failover needs at least one target")
        first = preferred or targets[0]
        self.allowed = tuple(
            target
            for target in targets
            if target is first or may_fall_back(fallback, first, target)
        )
        self._preferred = preferred
        self.barred = tuple(t.name for t in targets if t not in self.allowed)
        self.attempts: list[Attempt] = []
        self._book = book
        self._percentile = hedge_percentile
        self._most = attempts_per_target
        self._deadline = math.inf if deadline is None else deadline
        self._asked: dict[str, int] = {}
        self._pause_until: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._hopeless: GiveUp | None = None
        self._hedged = False

    def next(self, now: float) -> Step:
        """What to do now."""
        if self._hopeless is not None:
            return Wait(None) if self._running else self._hopeless
        target = self._best(now)
        if self._running:
            return self._while_running(target, now)
        if target is None:
            return self._give_up(now)
        wait = self._wait_for(target, now)
        return Wait(wait) if wait > 0 else Ask(target.name, self._why(target))

    def started(self, target: str, now: float) -> None:
        """The target was asked."""
        self._hedged = self._hedged or bool(self._running)
        self._asked[target] = self._asked.get(target, 0) + 1
        self._running[target] = now

    def failed(self, target: str, code: str, now: float, retry_after: float | None = None) -> None:
        """The target failed."""
        seconds = now - self._running.pop(target, now)
        self._hedged = False  # who still works on it may get another one beside it
        self.attempts.append(Attempt(target, code, seconds))
        blame = self._book.failed(target, code, now, retry_after)
        if blame == "caller" or code == "INVALID_INPUT":
            self._hopeless = GiveUp("asking elsewhere cannot help", code, tuple(self.attempts))
        if blame == "request" or code in LASTING:
            self._asked[target] = self._most  # the same request is refused again
        pause = FIRST_PAUSE_SECONDS * 2 ** (self._asked.get(target, 1) - 1)
        self._pause_until[target] = now + min(pause, LONGEST_PAUSE_SECONDS)

    def busy(self, target: str, code: str, now: float, wait: float) -> None:
        """The target has no room for so many seconds: neither a failure nor one of its attempts."""
        self._running.pop(target, None)
        self._hedged = False
        self._asked[target] -= 1
        tried = Attempt(target, code, 0.0)
        if tried not in self.attempts:
            self.attempts.append(tried)
        self._pause_until[target] = now + wait

    def late(self, target: str, now: float) -> None:
        """The target used up its part of the caller's time, for which nobody is to blame."""
        seconds = now - self._running.pop(target, now)
        self.attempts.append(Attempt(target, "DEADLINE_EXCEEDED", seconds))
        self._asked[target] = self._most

    def refused(self, target: str, code: str) -> None:
        """The target must not be asked for this task, for which nobody is to blame."""
        self._running.pop(target, None)
        self.attempts.append(Attempt(target, code, 0.0))
        self._asked[target] = self._most

    def succeeded(self, target: str, now: float) -> None:
        """The target answered; whoever else still works on it is to be canceled."""
        seconds = now - self._running.pop(target, now)
        self.attempts.append(Attempt(target, None, seconds))
        self._book.succeeded(target, seconds)

    def has_other(self, target: str) -> bool:
        """Whether somebody else is left who was not asked."""
        return any(one.name != target and not self._asked.get(one.name) for one in self.allowed)

    @property
    def running(self) -> tuple[str, ...]:
        """Who works on it now."""
        return tuple(self._running)

    def _while_running(self, other: Target | None, now: float) -> Step:
        if other is None or self._percentile is None or self._hedged:
            return Wait(None)
        if self._recovers_in(other.name, now) > 0 or self._asked.get(other.name):
            return Wait(None)
        name, since = next(iter(self._running.items()))
        usual = self._book.latency(name, self._percentile)
        if usual is None:
            return Wait(None)
        if now - since >= usual:
            return Ask(
                other.name, f"{name} takes longer than {self._percentile:.0%} of its calls", True
            )
        return Wait(usual - (now - since))

    def _best(self, now: float) -> Target | None:
        """Of the targets that may still be asked: healthy before cooling, fresh before tried."""
        left = [
            (index, target)
            for index, target in enumerate(self.allowed)
            if target.name not in self._running and self._asked.get(target.name, 0) < self._most
        ]

        def order(entry: tuple[int, Target]) -> tuple[float, int, int]:
            index, target = entry
            return self._recovers_in(target.name, now), self._asked.get(target.name, 0), index

        return min(left, key=order)[1] if left else None

    def _recovers_in(self, name: str, now: float) -> float:
        """Seconds until it is neither cooling nor without room."""
        busy = 0.0 if self._asked.get(name) else self._pause_until.get(name, now) - now
        return max(0.0, busy, self._book.recovers_in(name, now))

    def _wait_for(self, target: Target, now: float) -> float:
        """How long to wait before this target is asked.

        One that cools is asked at once when it was not tried yet, since nobody else is left, or
        when it would recover too late to help.
        """
        if target.name not in self._asked:
            return 0.0
        pause = self._pause_until.get(target.name, now) - now
        wait = max(pause, self._book.recovers_in(target.name, now))
        if now + wait < self._deadline - (self._deadline - now) / 2 or math.isinf(self._deadline):
            return wait
        return max(0.0, min(pause, (self._deadline - now) / 2))

    def _why(self, target: Target) -> str:
        if self.attempts:
            last = self.attempts[-1]
            if self._asked.get(last.target, 0) == 0:
                waited = target.name == last.target
                return "it had no room before" if waited else f"{last.target} has no room"
            return f"{last.target} failed: {last.code}"
        first = self.allowed[0]
        if target is first:
            absent = self._preferred
            return "first choice" if absent is None else f"{absent.name} is not there"
        return f"{first.name} cools down: {self._book.of(first.name).code}"

    def _give_up(self, now: float) -> GiveUp:
        code = self.attempts[-1].code if self.attempts else "AGENT_UNAVAILABLE"
        waits = [self._book.recovers_in(target.name, now) for target in self.allowed]
        barred = f"; not allowed by price: {', '.join(self.barred)}" if self.barred else ""
        return GiveUp(
            f"all that may be asked have failed{barred}",
            code or "INTERNAL",
            tuple(self.attempts),
            min(waits, default=None),
        )
