"""Money and tokens reserved before a call and settled after it, per member that really runs.

What is reserved cannot be spent twice, so calls side by side stay within the limit together. A
member whose price nobody knows cannot be charged, so under a money limit it is not asked unless
the budget says so.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from msgspec import Struct

__all__ = ["Amount", "Budget", "BudgetExceeded", "Entry", "Reservation", "UnknownPrice"]

UnknownPrice = Literal["refuse", "allow"]
"""What to do with a member of unknown price when money is limited."""


class Amount(Struct, frozen=True):
    """Tokens and money of one currency; ``None`` is unknown."""

    tokens: int | None = None
    money: float | None = None


class Entry(Struct):
    """What one member has used: calls, what is known of tokens and money, and what is not."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0
    unknown_calls: int = 0


class Reservation(Struct, frozen=True, kw_only=True):
    """What was set aside for one call to one member."""

    number: int
    member: str
    amount: Amount


class BudgetExceeded(Exception):
    """Nothing was reserved: the limit would be passed, or the price is unknown."""


class Budget:
    """The limits of one task, and what is left of them.

    Args:
        max_tokens: ``None`` does not limit.
        max_money: In the one currency of the task; ``None`` does not limit.
        unknown_price: What to do with members whose price is unknown.
    """

    def __init__(
        self,
        *,
        max_tokens: int | None = None,
        max_money: float | None = None,
        unknown_price: UnknownPrice = "refuse",
    ) -> None:
        self.max_tokens = max_tokens
        self.max_money = max_money
        self.unknown_price = unknown_price
        self.ledger: defaultdict[str, Entry] = defaultdict(Entry)
        self._open: dict[int, Reservation] = {}
        self._numbers = 0

    @property
    def left_tokens(self) -> int | None:
        """Tokens neither used nor reserved; ``None`` without a limit."""
        if self.max_tokens is None:
            return None
        reserved = sum(one.amount.tokens or 0 for one in self._open.values())
        used = sum(entry.tokens for entry in self.ledger.values())
        return max(0, self.max_tokens - used - reserved)

    @property
    def left_money(self) -> float | None:
        """Money neither spent nor reserved; ``None`` without a limit."""
        if self.max_money is None:
            return None
        reserved = sum(one.amount.money or 0.0 for one in self._open.values())
        spent = sum(entry.money for entry in self.ledger.values())
        return max(0.0, self.max_money - spent - reserved)

    @property
    def exceeded(self) -> bool:
        """Whether more was used than allowed, which only a wrong estimate can cause."""
        tokens = sum(entry.tokens for entry in self.ledger.values())
        money = sum(entry.money for entry in self.ledger.values())
        return (self.max_tokens is not None and tokens > self.max_tokens) or (
            self.max_money is not None and money > self.max_money + 1e-12
        )

    def reserve(self, member: str, estimate: Amount) -> Reservation:
        """Set aside what a call to this member will use at most.

        Raises:
            BudgetExceeded: it does not fit into what is left.
        """
        tokens, money = self.left_tokens, self.left_money
        if money is not None and estimate.money is None and self.unknown_price == "refuse":
            raise BudgetExceeded(f"the price of {member} is unknown, and money is limited")
        if money is not None and (estimate.money or 0.0) > money + 1e-12:
            raise BudgetExceeded(f"{member} may cost {estimate.money:g}, and {money:g} is left")
        if tokens is not None and (estimate.tokens or 0) > tokens:
            raise BudgetExceeded(f"{member} may use {estimate.tokens} tokens, {tokens} are left")
        self._numbers += 1
        made = Reservation(number=self._numbers, member=member, amount=estimate)
        self._open[made.number] = made
        return made

    def settle(
        self, reservation: Reservation, used: Amount | None, *, served_by: str | None = None
    ) -> None:
        """Replace a reservation by what was used; a second settlement changes nothing.

        Args:
            reservation: From ``reserve``.
            used: What is unknown of it is charged as reserved. ``None``: nothing ran.
            served_by: Who really ran it, when that was another member.
        """
        if self._open.pop(reservation.number, None) is None or used is None:
            return
        entry = self.ledger[served_by or reservation.member]
        reserved = reservation.amount
        entry.calls += 1
        entry.unknown_calls += used.tokens is None or used.money is None
        entry.tokens += (reserved.tokens or 0) if used.tokens is None else used.tokens
        entry.money += (reserved.money or 0.0) if used.money is None else used.money
