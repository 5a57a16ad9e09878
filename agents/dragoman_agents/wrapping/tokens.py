"""What was used, read from whatever a framework or an SDK calls it.

Nothing counted is unknown, not zero: no call of a model uses no token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, UnsetType

from dragoman_agents.models.wire_values import count_or_none
from dragoman_bus.protocol.payloads import Usage

__all__ = ["usage_of"]

INPUT = ("input_tokens", "input_token_count", "prompt_tokens", "prompt_token_count")
OUTPUT = ("output_tokens", "output_token_count", "completion_tokens", "candidates_token_count")
CACHED = (
    "cache_read_tokens",
    "cache_read_input_token_count",
    "cache_read_input_tokens",
    "cached_content_token_count",
    "cached_prompt_tokens",
    "input_tokens_details.cached_tokens",
    "input_token_details.cache_read",
    "prompt_tokens_details.cached_tokens",
)
REASONING = (
    "output_reasoning_tokens",
    "reasoning_output_token_count",
    "thoughts_token_count",
    "output_tokens_details.reasoning_tokens",
    "output_token_details.reasoning",
    "completion_tokens_details.reasoning_tokens",
)
CALLS = ("requests", "calls", "successful_requests")
"""Paths to each count, as OpenAI, Anthropic, Google, and the frameworks spell them."""

INPUT_BESIDE = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Anthropic counts cached input beside the rest of the input, all others as a part of it."""
OUTPUT_BESIDE = ("thoughts_token_count",)
"""Google counts thoughts beside the rest of the output, all others as a part of it."""


def usage_of(told: Any) -> Usage | None:
    """``told``, an object or mapping with counts of tokens, as usage; ``None`` without counts."""
    if isinstance(told, Usage):
        return told
    given = _count(told, INPUT, *INPUT_BESIDE)
    taken = _count(told, OUTPUT, *OUTPUT_BESIDE)
    calls = _count(told, CALLS)
    if given is None and taken is None and not calls:
        return None
    if not given and not taken:
        return Usage(calls=calls, source="none") if calls else None
    return Usage(
        input_tokens=_known(given),
        output_tokens=_known(taken),
        # A count of zero that stands where nothing was told changes no cost.
        cached_input_tokens=_known(_count(told, CACHED)),
        reasoning_tokens=_known(_count(told, REASONING)),
        calls=_known(calls),
        source="provider",
    )


def _count(told: Any, paths: Sequence[str], *beside: str) -> int | None:
    """The first count that is there, and what is counted beside it."""
    found = next((count for path in paths if (count := _at(told, path)) is not None), None)
    return None if found is None else found + sum(_at(told, path) or 0 for path in beside)


def _at(told: Any, path: str) -> int | None:
    for name in path.split("."):
        told = _member(told, name)
    return count_or_none(told)


def _member(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _known(count: int | None) -> int | UnsetType:
    return UNSET if count is None else count
