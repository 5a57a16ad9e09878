"""Answers that fit a JSON Schema, whatever the provider can do: told, checked, asked once more.

A provider that enforces schemas is sent the schema; any other is told it in words. Either way the
answer is judged as the bus judges values, and an answer that does not fit is sent back once with
what is wrong. The result says which of the three it took (``schema_mode``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import structs

from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.port import Message, Request, Result, Usage
from dragoman_bus.validation import validate_value

__all__ = ["Ask", "fit_schema", "request_to_send", "sum_usage"]

Ask = Callable[[Request], Awaitable[Result]]
"""One call to the model, without any regard to the schema."""

FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*)\n\s*```\s*$", re.DOTALL)
"""Models that are only told a schema like to wrap their JSON in a code block."""

VIOLATIONS_TOLD = 5


def request_to_send(request: Request, *, native: bool) -> Request:
    """``request`` as the provider is asked it.

    Args:
        request: What to ask.
        native: Whether the provider enforces schemas; else the schema moves into the system prompt.
    """
    if request.schema is None or native:
        return request
    words = (
        "Answer only with JSON that fits this JSON Schema: "
        f"{json.dumps(request.schema, ensure_ascii=False)}"
    )
    system = f"{request.system}\n\n{words}" if request.system else words
    return structs.replace(request, system=system, schema=None)


async def fit_schema(request: Request, answer: Result, ask: Ask, *, native: bool) -> Result:
    """``answer`` with its parsed and checked ``data``; without a schema, as it is.

    Args:
        request: What was asked, before ``request_to_send``.
        answer: The model's answer.
        ask: Asks the model again where the answer does not fit; called at most once.
        native: As for ``request_to_send``.

    Raises:
        ModelError: ``invalid`` when the token limit cut the JSON off, ``internal`` when the
            repaired answer does not fit either; whatever ``ask`` raises.
    """
    if request.schema is None or answer.tool_calls:
        return answer
    data, wrong = _judged(request.schema, answer)
    if wrong is None:
        return structs.replace(answer, data=data, schema_mode="native" if native else "prompted")
    try:
        repaired = await ask(_repair(request_to_send(request, native=native), answer, wrong))
    except ModelError as error:
        # The first answer was paid for, whatever became of the second.
        error.usage = sum_usage(answer.usage, error.usage) if error.usage else answer.usage
        raise
    usage = sum_usage(answer.usage, repaired.usage)
    data, wrong = _judged(request.schema, repaired)
    if wrong is not None:
        raise ModelError(
            "internal",
            f"the model's answer does not fit the schema, asked twice: {wrong}",
            code="INVALID_OUTPUT",
            usage=usage,
        )
    return structs.replace(repaired, data=data, schema_mode="repaired", usage=usage)


def sum_usage(first: Usage, second: Usage) -> Usage:
    """Two calls' usage added; a count that one of them does not tell is unknown."""
    return Usage(
        input_tokens=_sum(first.input_tokens, second.input_tokens),
        output_tokens=_sum(first.output_tokens, second.output_tokens),
        cached_input_tokens=_sum(first.cached_input_tokens, second.cached_input_tokens),
        reasoning_tokens=_sum(first.reasoning_tokens, second.reasoning_tokens),
        source=first.source if first.source == second.source else "estimated",
    )


def _judged(schema: Any, answer: Result) -> tuple[Any, str | None]:
    """The parsed answer, and what is wrong with it in words."""
    if answer.finish == "length":
        raise ModelError(
            "invalid",
            "the answer was cut off at the token limit before its JSON was complete; "
            "raise max_output_tokens",
            usage=answer.usage,
        )
    try:
        data = json.loads(FENCE.sub(r"\1", answer.text))
    except ValueError as error:
        return None, f"it is not JSON ({error})"
    violations = validate_value(schema, data)[:VIOLATIONS_TOLD]
    if not violations:
        return data, None
    return None, "; ".join(
        f"{violation.path or 'the value'}: {violation.message}" for violation in violations
    )


def _repair(sent: Request, answer: Result, wrong: str) -> Request:
    correction = (
        f"That answer does not fit the JSON Schema: {wrong}. "
        "Answer again, only with JSON that fits the schema."
    )
    return structs.replace(
        sent,
        messages=(
            *sent.messages,
            Message(role="assistant", text=answer.text),
            Message(role="user", text=correction),
        ),
    )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
