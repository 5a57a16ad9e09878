"""Schemas of other participants, judged within bounds: whoever wrote one cannot stop a reader.

Spec: spec/security.md, SEC-4. A judgement takes a limited number of steps; regular expressions that
may take longer than their text allows, and huge schemas, are not judged. What is not judged passes:
the agent that owns the contract judges it itself.
"""

from __future__ import annotations

import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec
from jsonschema import SchemaError
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from dragoman_bus.validation.values import (
    MAXIMUM_VIOLATIONS,
    ContractValidator,
    Violation,
    as_violations,
)

__all__ = ["MAXIMUM_SCHEMA_BYTES", "is_cheap", "violations_of_foreign"]

MAXIMUM_SCHEMA_BYTES = 256 * 1024
MAXIMUM_STEPS = 100_000
"""Keywords that are looked at for one value."""
MAXIMUM_MATCHING = 10_000_000
"""What a regular expression may cost in the worst case, in steps of its engine."""
MAXIMUM_UNIQUE_ITEMS = 1000

_UNBOUNDED = 100
_REPEATS = {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}
_HARD = {"BRANCH", "GROUPREF", "GROUPREF_EXISTS"}


class _TooMuch(Exception):
    pass


def violations_of_foreign(schema: Any, value: Any) -> list[Violation]:
    """What is wrong with ``value``, as far as that can be told within bounds."""
    if len(msgspec.json.encode(schema)) > MAXIMUM_SCHEMA_BYTES:
        return []
    try:
        validator = _validator()(schema, registry=Registry())
        return as_violations(islice(validator.iter_errors(value), MAXIMUM_VIOLATIONS), schema)
    except (_TooMuch, RecursionError, SchemaError, Unresolvable, TypeError, ValueError, re_error):
        # The schema is no schema, or costs more than it is worth here.
        return []


re_error = parser.error


def _validator() -> Any:
    """A validator class that counts its steps, for one judgement."""
    left = [MAXIMUM_STEPS]

    def counted(keyword: Callable[..., Any]) -> Callable[..., Iterator[ValidationError]]:
        def check(
            validator: Any, value: Any, instance: Any, schema: Any
        ) -> Iterator[ValidationError]:
            left[0] -= 1
            if left[0] < 0:
                raise _TooMuch
            yield from keyword(validator, value, instance, schema) or ()

        return check

    keywords = {name: counted(check) for name, check in ContractValidator.VALIDATORS.items()}
    keywords["pattern"] = _guarded(keywords["pattern"], _matches_cheaply)
    keywords["patternProperties"] = _guarded(keywords["patternProperties"], _names_match_cheaply)
    keywords["additionalProperties"] = _guarded(keywords["additionalProperties"], _has_no_patterns)
    keywords["uniqueItems"] = _guarded(keywords["uniqueItems"], _is_short)
    return extend(ContractValidator, keywords)  # type: ignore[no-untyped-call]


def _guarded(check: Callable[..., Any], is_worth: Callable[..., bool]) -> Callable[..., Any]:
    def guarded(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        return (
            check(validator, value, instance, schema) if is_worth(value, instance, schema) else ()
        )

    return guarded


def _matches_cheaply(pattern: Any, instance: Any, schema: Any) -> bool:
    return isinstance(instance, str) and is_cheap(str(pattern), len(instance))


def _names_match_cheaply(patterns: Any, instance: Any, schema: Any) -> bool:
    longest = max(map(len, instance), default=0) if isinstance(instance, dict) else 0
    return all(is_cheap(pattern, longest) for pattern in patterns)


def _has_no_patterns(value: Any, instance: Any, schema: Any) -> bool:
    return _names_match_cheaply(schema.get("patternProperties", {}), instance, schema)


def _is_short(value: Any, instance: Any, schema: Any) -> bool:
    return not isinstance(instance, list) or len(instance) <= MAXIMUM_UNIQUE_ITEMS


def is_cheap(pattern: str, length: int) -> bool:
    """Whether matching a text of ``length`` takes a bounded time, whatever the text is."""
    loops = _loops(pattern)
    return loops is not None and max(1, length) ** (loops + 1) <= MAXIMUM_MATCHING


@lru_cache(maxsize=256)
def _loops(pattern: str) -> int | None:
    """How many loops follow each other in a pattern; ``None`` when one is inside another."""
    try:
        return sum(_count(parser.parse(pattern), inside=False))
    except (re_error, RecursionError, OverflowError, _TooMuch):
        return None


def _count(nodes: Any, *, inside: bool) -> Iterator[int]:
    for operator, argument in nodes:
        name = str(operator)
        if inside and name in _HARD:
            raise _TooMuch
        if name in _REPEATS:
            _, most, body = argument
            loops = most is parser.MAXREPEAT or int(most) > _UNBOUNDED
            if inside and (loops or int(most) > 1):
                raise _TooMuch
            yield int(loops)
            yield from _count(body, inside=inside or int(most) > 1)
        elif name == "SUBPATTERN":
            yield from _count(argument[-1], inside=inside)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _count(argument[1], inside=inside)
        elif name == "BRANCH":
            for branch in argument[1]:
                yield from _count(branch, inside=inside)
        elif name == "ATOMIC_GROUP":
            yield from _count(argument, inside=inside)
