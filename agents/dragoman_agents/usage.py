"""Usage of several calls added up: what is known is summed, what is unknown stays unknown.

Spec: spec/model.md, usage.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.payloads import Cost, Usage

__all__ = ["add_usage"]


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


def _add(first: int | UnsetType, second: int | UnsetType) -> int | UnsetType:
    if isinstance(first, UnsetType):
        return second
    return first if isinstance(second, UnsetType) else first + second


def _add_cost(first: Cost | UnsetType, second: Cost | UnsetType) -> Cost | UnsetType:
    if isinstance(first, UnsetType):
        return second
    if isinstance(second, UnsetType):
        return first
    if first.currency != second.currency:
        return UNSET
    return Cost(amount=first.amount + second.amount, currency=first.currency)
