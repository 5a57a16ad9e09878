"""What each member may use of a task's limits, and what it has used: reserved, then settled.

Spec: spec/ensembles.md, asking. The pure core is ``ensembles.budgets``; here prices are those
that members announce, and limits those of the task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec import Struct, UnsetType

from dragoman_agents.context import Context
from dragoman_agents.ensembles.agents.members import MemberView, Missing
from dragoman_agents.ensembles.budgets import Amount, Budget, Reservation, UnknownPrice
from dragoman_bus.protocol.payloads import Cost, Usage

__all__ = ["Grant", "Spending", "Turns"]

OVER_LIMIT = "LIMIT_EXCEEDED"
BYTES_PER_TOKEN = 4
"""Of text and JSON, on average: an estimate, used only to compare prices beforehand."""


class Grant(Struct, frozen=True, kw_only=True):
    """What each of some members may use.

    Attributes:
        members: Those that may be asked.
        refused: Those that may not, and why.
        max_tokens: For each; ``None`` without a limit.
        max_cost: For each; ``None`` without a limit.
    """

    members: tuple[MemberView, ...]
    refused: tuple[Missing, ...] = ()
    max_tokens: int | None = None
    max_cost: Cost | None = None

    def options(self) -> dict[str, Any]:
        """The same as options of ``Bus.submit``."""
        limits = {"max_tokens": self.max_tokens, "max_cost": self.max_cost}
        return {name: limit for name, limit in limits.items() if limit is not None}


class Turns:
    """Works of which so many are under way at once; a context for each.

    Args:
        count: How many works there are.
        at_once: How many at the same time.
    """

    def __init__(self, count: int, at_once: int) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._waiting = count
        self._free = at_once

    async def __aenter__(self) -> Turns:
        await self._room.acquire()
        self._waiting -= 1
        self._free -= 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._free += 1
        self._room.release()

    @property
    def parts(self) -> int:
        """Among how many the limits that are left have to be shared: this one, and who may join."""
        return 1 + min(self._waiting, self._free)


class Spending:
    """The limits of one task, shared out among members.

    Args:
        ctx: The task.
        unknown_price: Whether members of unknown price are asked when money is limited.
        input_tokens: How long the input is, about.
        output_tokens: How long an answer is expected to be.
    """

    def __init__(
        self, ctx: Context, unknown_price: UnknownPrice, *, input_tokens: int, output_tokens: int
    ) -> None:
        money = ctx.remaining_cost
        self.currency = None if money is None else money.currency
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.budget = Budget(
            max_tokens=ctx.remaining_tokens,
            max_money=None if money is None else money.amount,
            unknown_price=unknown_price,
        )
        self._reserved: dict[str, list[Reservation]] = {}

    def expected(self, member: MemberView) -> Cost | None:
        """What a call of this member is expected to cost; ``None`` is unknown."""
        return member.expected_cost(self.input_tokens, self.output_tokens)

    def grant(self, members: Sequence[MemberView], *, parts: int | None = None) -> Grant:
        """Reserve an equal part of what is left for each; who cannot do with it is refused.

        Args:
            members: Who is to be asked at the same time.
            parts: Into how many parts to divide; default: as many as members.
        """
        able: list[MemberView] = []
        refused: list[Missing] = []
        for member in members:
            obstacle = self._obstacle(member)
            if obstacle is None:
                able.append(member)
            else:
                refused.append(Missing(member.name, obstacle, OVER_LIMIT))
        while able:
            share = self._share(max(parts or 0, len(able)))
            dearest = max(able, key=self._amount)
            if share.money is None or self._amount(dearest) <= share.money:
                break
            able.remove(dearest)
            words = f"it may cost {self._amount(dearest):.6g}, and {share.money:.6g} is its part"
            refused.append(Missing(dearest.name, words, OVER_LIMIT))
        if able and (share.tokens == 0 or (share.money == 0 and any(map(self._amount, able)))):
            words = "nothing is left of the limits"
            refused += [Missing(one.name, words, OVER_LIMIT) for one in able]
            able = []
        return self._reserve(able, refused, parts)

    def settle(self, member: MemberView, usage: Usage | None, *, ran: bool) -> None:
        """Replace the oldest reservation of a member by what it used."""
        open_ones = self._reserved.get(member.name)
        if not open_ones:
            return
        self.budget.settle(open_ones.pop(0), self._used(member, usage) if ran else None)

    def _reserve(
        self, able: Sequence[MemberView], refused: list[Missing], parts: int | None
    ) -> Grant:
        if not able:
            return Grant(members=(), refused=tuple(refused))
        share = self._share(max(parts or 0, len(able)))
        for member in able:
            reservation = self.budget.reserve(member.name, share)
            self._reserved.setdefault(member.name, []).append(reservation)
        money = None
        if share.money is not None and self.currency is not None:
            money = Cost(amount=share.money, currency=self.currency)
        return Grant(
            members=tuple(able), refused=tuple(refused), max_tokens=share.tokens, max_cost=money
        )

    def _share(self, parts: int) -> Amount:
        tokens, money = self.budget.left_tokens, self.budget.left_money
        return Amount(
            tokens=None if tokens is None else tokens // parts,
            money=None if money is None else money / parts,
        )

    def _obstacle(self, member: MemberView) -> str | None:
        if self.currency is None or self.budget.unknown_price == "allow":
            return None
        expected = self.expected(member)
        if expected is None:
            return "its price is unknown, and money is limited"
        if expected.currency not in (self.currency, "XXX"):
            return f"its price is in {expected.currency}, and the limit in {self.currency}"
        return None

    def _amount(self, member: MemberView) -> float:
        expected = self.expected(member)
        return 0.0 if expected is None else expected.amount

    def _used(self, member: MemberView, usage: Usage | None) -> Amount:
        """What is known to be used; else what was expected, else (``None``) what was reserved."""
        if usage is None and not member.models:
            return Amount(tokens=0, money=0.0)
        tokens: int | None = None
        money: float | None = None
        if usage is not None:
            counts = (usage.input_tokens, usage.output_tokens)
            known = [count for count in counts if not isinstance(count, UnsetType)]
            tokens = sum(known) if len(known) == len(counts) else None
            if not isinstance(usage.cost, UnsetType) and usage.cost.currency == self.currency:
                money = usage.cost.amount
        expected = self.expected(member)
        if money is None and expected is not None and expected.currency in (self.currency, "XXX"):
            money = expected.amount
        if tokens is None:
            tokens = self.input_tokens + self.output_tokens
        return Amount(tokens=tokens, money=money)
