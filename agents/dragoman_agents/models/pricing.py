"""What a call cost, by the declared price. An unknown price or count is unknown, never zero."""

from __future__ import annotations

from fnmatch import fnmatchcase

from msgspec import UNSET, UnsetType

from dragoman_agents.models import port
from dragoman_agents.models.settings import ModelSettings, PriceSettings, family_of
from dragoman_bus.protocol.payloads import Cost, ModelFacts, Price, Usage

__all__ = [
    "affordable_tokens",
    "announced_cost",
    "cost_of",
    "model_facts",
    "price_of",
    "task_usage",
]

TOKENS_PER_PRICE = 1_000_000
DIGITS = 12
"""Decimals kept of an amount: far below a token's price, and free of binary noise."""


def cost_of(usage: port.Usage, price: PriceSettings) -> Cost | None:
    """The cost of one call; ``None`` when the provider did not say what was used."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
    cached_price = price.cached_input_per_million_tokens
    if cached_price is None:
        cached_price = price.input_per_million_tokens
    amount = (
        (usage.input_tokens - cached) * price.input_per_million_tokens
        + cached * cached_price
        + usage.output_tokens * price.output_per_million_tokens
    )
    return Cost(amount=round(amount / TOKENS_PER_PRICE, DIGITS), currency=price.currency)


def announced_cost(usage: Usage, price: Price) -> Cost | UnsetType:
    """The cost of what a task used, by the price that its agent announces."""
    if isinstance(usage.input_tokens, UnsetType) or isinstance(usage.output_tokens, UnsetType):
        return UNSET
    amount = (
        usage.input_tokens * price.input_per_million_tokens
        + usage.output_tokens * price.output_per_million_tokens
    )
    return Cost(amount=round(amount / TOKENS_PER_PRICE, DIGITS), currency=price.currency)


def affordable_tokens(money: Cost | None, price: PriceSettings | None) -> int | None:
    """The output tokens that ``money`` buys; ``None`` where that is not known, or no limit.

    An unknown price, or one in another currency, cannot be held against a limit beforehand.
    """
    if money is None or price is None or money.currency != price.currency:
        return None
    if price.output_per_million_tokens == 0:
        return None
    return int(money.amount * TOKENS_PER_PRICE / price.output_per_million_tokens)


def price_of(settings: ModelSettings, served: str) -> PriceSettings | None:
    """What the model that served costs; ``None`` is unknown.

    A price that stands with the model holds whatever serves, as the name of a deployment says
    nothing of the model behind it; a listed price holds only for the models it names.
    """
    if settings.price is not None:
        return settings.price
    for listed in settings.prices:
        if listed.provider == settings.provider and fnmatchcase(served, listed.model):
            return listed
    return None


def task_usage(usage: port.Usage, price: PriceSettings | None) -> Usage:
    """One call's usage as a task reports it, with its cost where that is known."""
    cost = None if price is None else cost_of(usage, price)
    return Usage(
        input_tokens=_known(usage.input_tokens),
        output_tokens=_known(usage.output_tokens),
        cached_input_tokens=_known(usage.cached_input_tokens),
        reasoning_tokens=_known(usage.reasoning_tokens),
        calls=1,
        cost=UNSET if cost is None else cost,
        source=usage.source,
    )


def model_facts(settings: ModelSettings) -> ModelFacts:
    """What an agent's announcement says of the model."""
    price = price_of(settings, settings.model)
    return ModelFacts(
        provider=settings.vendor or settings.provider,
        family=settings.family or family_of(settings.model),
        model=settings.model,
        context_window=_known(settings.context_window),
        retires_on=UNSET if settings.retires_on is None else settings.retires_on.isoformat(),
        price=UNSET
        if price is None
        else Price(
            input_per_million_tokens=price.input_per_million_tokens,
            output_per_million_tokens=price.output_per_million_tokens,
            currency=price.currency,
            as_of=price.as_of.isoformat(),
        ),
    )


def _known(count: int | None) -> int | UnsetType:
    return UNSET if count is None else count
