"""Tries members in order until one answers: failover and hedging, as the pure core decides.

Spec: spec/ensembles.md, failover. Used by the kinds ``failover`` and ``router``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Protocol

from dragoman_agents.ensembles.agents.accounts import report, unasked
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView, Missing
from dragoman_agents.ensembles.agents.shared_health import SharedHealth
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.failover import Ask, FailoverRun, Fallback, GiveUp, Target, Wait
from dragoman_bus.protocol.errors import TaskFailed
from dragoman_bus.protocol.receipts import MemberReport

__all__ = ["Attempts", "TryingOptions"]

NO_ROOM = "OVERLOADED"
"""What an agent refuses with whose slots and queue are full."""
PAUSE_SECONDS = 0.5


class TryingOptions(Protocol):
    """The options of a kind that tries members in order."""

    @property
    def fallback(self) -> Fallback:
        """What a stand-in may cost."""

    @property
    def hedge_percentile(self) -> float | None:
        """When a second member is asked as well."""

    @property
    def attempts_per_member(self) -> int:
        """How often one member is asked at most."""

    @property
    def attempt_seconds(self) -> float | None:
        """How long one member may take before another is asked."""


class Attempts:
    """One task's way through members.

    Args:
        task: The task.
        order: Whom to ask, the preferred one first; it sets the price.
        health: What is known of them.
        options: How to go about it.
        preferred: The member that should answer and is not there; it sets the price.
    """

    def __init__(
        self,
        task: Task,
        order: Sequence[MemberView],
        health: SharedHealth,
        options: TryingOptions,
        *,
        preferred: MemberView | None = None,
    ) -> None:
        self._task = task
        self._health = health
        self._options = options
        self._members = {member.name: member for member in order}
        self._refused: dict[str, str] = {}
        self._late: set[str] = set()
        self._whys: dict[str, str] = {}
        self._order = order
        self._preferred = preferred

    async def first_answer(self) -> tuple[Call, str]:
        """The call that answered, and why this member was asked.

        Raises:
            TaskFailed: nobody answered; the account is told.
        """
        targets = self._priced(self._order)
        preferred: Target | None = None
        if self._preferred is not None:
            preferred, *targets = self._priced([self._preferred, *self._order])
        if not targets:
            raise self._task.abstain("no member may be asked", self.reports(None))
        run = FailoverRun(
            targets,
            self._health.book,
            fallback=self._options.fallback,
            hedge_percentile=self._percentile,
            attempts_per_target=self._options.attempts_per_member,
            deadline=time.monotonic() + self._task.calls.remaining,
            preferred=preferred,
        )
        for name in run.barred:
            self._refused[name] = f"fallback = {self._options.fallback!r} does not allow its price"
        running: dict[asyncio.Task[Call], str] = {}
        try:
            return await self._drive(run, running)
        finally:
            for attempt in running:
                attempt.cancel()
            if running:
                await asyncio.wait(running)

    async def _drive(
        self, run: FailoverRun, running: dict[asyncio.Task[Call], str]
    ) -> tuple[Call, str]:
        while True:
            now = time.monotonic()
            step = run.next(now)
            if isinstance(step, GiveUp):
                raise self._gave_up(step)
            if isinstance(step, Ask):
                self._whys[step.target] = step.why
                asking = self._ask(step.target, has_other=run.has_other(step.target))
                attempt = asyncio.create_task(asking)
                running[attempt] = step.target
                run.started(step.target, now)
                continue
            for attempt in await self._wait(step, running):
                name = running.pop(attempt)
                call = attempt.result()
                if call.error is None:
                    run.succeeded(name, time.monotonic())
                    self._health.tell(name)
                    return call, self._whys[name]
                if name in self._refused:
                    run.refused(name, call.error.code)
                    continue
                if call.code == NO_ROOM and not call.ran:
                    # Not all at the same time again.
                    wait = (call.error.retry_after or PAUSE_SECONDS) * random.uniform(0.5, 1.5)
                    run.busy(name, NO_ROOM, time.monotonic(), wait)
                    continue
                if name in self._late:
                    run.late(name, time.monotonic())
                    continue
                run.failed(name, call.error.code, time.monotonic(), call.error.retry_after)
                self._health.tell(name)
            if self._task.calls.remaining <= 0 and not running:
                raise self._task.abstain("no member answered in time", self.reports(None))

    async def _wait(
        self, step: Wait, running: dict[asyncio.Task[Call], str]
    ) -> set[asyncio.Task[Call]]:
        left = self._task.calls.remaining
        seconds = left if step.seconds is None else min(step.seconds, left)
        if not running:
            await asyncio.sleep(seconds)
            return set()
        # A call ends by its own deadline, so without a hedge nothing else needs to be watched.
        timeout = None if step.seconds is None else seconds
        done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return done

    @property
    def _percentile(self) -> float | None:
        # A durable task's loser would go on, and be paid for.
        return None if self._task.ctx.is_durable else self._options.hedge_percentile

    async def _ask(self, name: str, *, has_other: bool) -> Call:
        member = self._members[name]
        # A part is left for whoever may be asked beside it.
        parts = 2 if has_other and self._percentile is not None else 1
        grant = self._task.calls.spending.grant([member], parts=parts)
        if not grant.members:
            # Another one may be cheap enough.
            self._refused[name] = grant.refused[0].why
            error = TaskFailed(f"{name}: {self._refused[name]}", code="LIMIT_EXCEEDED")
            return Call(member=member, error=error)
        given = self._options.attempt_seconds
        left = self._task.calls.remaining
        seconds = self._task.calls.step_seconds if given is None and has_other else given
        # Of two at once, nobody knows beforehand whose text it will be.
        alone = self._percentile is None
        # A member without a free slot is asked again when it is its turn, not at once.
        call = await self._task.calls.ask(
            member, grant=grant, seconds=seconds, relays=alone, retries=0
        )
        # Where its own time was up, not the task's, another one may still answer.
        if call.code == "DEADLINE_EXCEEDED" and given is not None and given < left:
            words = f"{name} took longer than {given:g} s"
            call.error = TaskFailed(words, code="MODEL_TIMEOUT", side_effects="possible")
        elif call.code == "DEADLINE_EXCEEDED" and given is None and has_other:
            self._late.add(name)
        return call

    def _priced(self, members: Sequence[MemberView]) -> list[Target]:
        """These with their prices, in the currency of the first whose price is known."""
        spending = self._task.calls.spending
        targets: list[Target] = []
        currency: str | None = None
        for member in members:
            expected = spending.expected(member)
            price: float | None = None
            if expected is not None:
                known = expected.currency != "XXX"
                currency = currency or (expected.currency if known else None)
                if not known or expected.currency == currency:
                    price = expected.amount
            targets.append(Target(member.name, price))
        return targets

    def _gave_up(self, step: GiveUp) -> TaskFailed:
        trail = "; ".join(
            f"{attempt.target}: {attempt.code} after {attempt.seconds:.2f} s"
            for attempt in step.attempts
        )
        error = self._task.abstain(step.why, self.reports(None))
        return TaskFailed(
            f"{step.why}: {trail or error.message}"[:1024],
            code=step.code if trail else error.code,
            retryable=error.retryable,
            retry_after=step.retry_after or error.retry_after,
            side_effects=error.side_effects,
        )

    def reports(self, chosen: Call | None) -> list[MemberReport]:
        """What became of each member."""
        reports = []
        asked = set()
        log = self._task.calls.log
        # Who had no room was asked again and again: that is told once.
        refusals = {call.name: call for call in log if call.code == NO_ROOM}
        for call in log:
            asked.add(call.name)
            if call.code == NO_ROOM and refusals[call.name] is not call:
                continue
            why = self._whys.get(call.name)
            if call is chosen:
                reports.append(report(call, "chosen", why=why, tells_answer=False))
            elif call.stopped:
                reports.append(report(call, "stopped", why="another one was quicker"))
            elif call.error is not None:
                reports.append(report(call, "failed"))
            else:
                reports.append(report(call, "used"))
        for member in self._order:
            if member.name in asked:
                continue
            if member.name in self._refused:
                missing = Missing(member.name, self._refused[member.name])
                reports.append(unasked(member, missing.why))
            else:
                reports.append(unasked(member, "it was not needed"))
        return reports
