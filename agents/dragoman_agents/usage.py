"""Usage added up and held against limits: what is known is summed, what is unknown stays unknown.

Spec: spec/model.md, usage and limits.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.errors import LocalError
from dragoman_bus.protocol.payloads import Cost, Limits, Usage

__all__ = [
    "add_usage",
    "check_limits",
    "remaining_cost",
    "remaining_hops",
    "remaining_tokens",
    "tokens_of",
]

DEFAULT_HOPS = 8


def add_usage(first: Usage | None, second: Usage) -> Usage:
    """The sum of two usages. Costs in different currencies cannot be added: the sum is unknown."""
    if first is None:
        return second
    return Usage(
        input_tokens=_add(first.input_tokens, second.input_tokens),
        output_tokens=_add(first.output_tokens, second.output_tokens),
        cached_input_tokens=_add(first.cached_input_tokens, second.cached_input_tokens),
        reasoning_tokens=_add(first.reasoning_tokens, second.reasoning_tokens),
        calls=_add(first.calls, second.calls),
        cost=_add_cost(first.cost, second.cost),
        source=first.source if first.source == second.source else "estimated",
    )


def tokens_of(usage: Usage | None) -> int:
    """The tokens known to be used."""
    if usage is None:
        return 0
    known = (usage.input_tokens, usage.output_tokens)
    return sum(count for count in known if not isinstance(count, UnsetType))


def remaining_hops(limits: Limits | UnsetType) -> int:
    """How often the task may be delegated further."""
    if isinstance(limits, UnsetType) or isinstance(limits.max_hops, UnsetType):
        return DEFAULT_HOPS
    return limits.max_hops


def remaining_tokens(limits: Limits | UnsetType, used: Usage | None) -> int | None:
    """Tokens that remain; ``None`` without a limit."""
    if isinstance(limits, UnsetType) or isinstance(limits.max_tokens, UnsetType):
        return None
    return max(0, limits.max_tokens - tokens_of(used))


def remaining_cost(limits: Limits | UnsetType, used: Usage | None) -> Cost | None:
    """Money that remains; ``None`` without a limit. Another currency cannot be subtracted."""
    if isinstance(limits, UnsetType) or isinstance(limits.max_cost, UnsetType):
        return None
    limit = limits.max_cost
    spent = UNSET if used is None else used.cost
    if isinstance(spent, UnsetType) or spent.currency != limit.currency:
        return limit
    return Cost(amount=max(0.0, limit.amount - spent.amount), currency=limit.currency)


def check_limits(limits: Limits | UnsetType, used: Usage) -> None:
    """Refuse to go on when a task has used more than it may.

    Raises:
        LocalError: ``LIMIT_EXCEEDED``.
    """
    if isinstance(limits, UnsetType):
        return
    tokens = tokens_of(used)
    if not isinstance(limits.max_tokens, UnsetType) and tokens > limits.max_tokens:
        raise LocalError(
            f"{tokens} tokens used, and {limits.max_tokens} are allowed", code="LIMIT_EXCEEDED"
        )
    limit, spent = limits.max_cost, used.cost
    if isinstance(limit, UnsetType) or isinstance(spent, UnsetType):
        return
    if spent.currency == limit.currency and spent.amount > limit.amount:
        raise LocalError(
            f"{spent.amount:g} {spent.currency} spent, and {limit.amount:g} are allowed",
            code="LIMIT_EXCEEDED",
        )


def _add(first: int | UnsetType, second: int | UnsetType) -> int | UnsetType:
    if isinstance(first, UnsetType) or isinstance(second, UnsetType):
        return UNSET
    return first + second


def _add_cost(first: Cost | UnsetType, second: Cost | UnsetType) -> Cost | UnsetType:
    if isinstance(first, UnsetType) or isinstance(second, UnsetType):
        return UNSET
    if first.currency != second.currency:
        return UNSET
    return Cost(amount=first.amount + second.amount, currency=first.currency)
