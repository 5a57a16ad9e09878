"""Which JSON Schemas OpenAI's strict mode takes: closed objects, nothing optional, few keywords.

A schema that is not strict is accepted and not enforced, and one that only looks strict is refused
with the whole request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["is_strict_schema"]

NAMED = ("$defs", "definitions", "properties")
"""Members whose own members have names, and not keywords."""

VALUES = ("const", "default", "enum", "examples", "required", "type")
"""Members that hold values, and not schemas."""

REFUSED = frozenset(
    {
        "allOf",
        "contains",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "maxContains",
        "maxProperties",
        "minContains",
        "minProperties",
        "not",
        "oneOf",
        "patternProperties",
        "prefixItems",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    }
)
"""Keywords that strict mode does not know."""


def is_strict_schema(schema: Any) -> bool:
    """Whether strict mode takes the schema."""
    if not isinstance(schema, Mapping):
        # ``true`` is any value, which cannot be enforced.
        return False
    if schema.keys() & REFUSED:
        return False
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        names = set(properties) if isinstance(properties, Mapping) else set()
        closed = schema.get("additionalProperties") is False
        if not closed or names != set(schema.get("required", ())):
            return False
    return all(is_strict_schema(inner) for inner in _inner(schema))


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword, value in schema.items():
        if keyword in NAMED and isinstance(value, Mapping):
            yield from value.values()
        elif keyword in VALUES or keyword == "additionalProperties":
            continue
        elif isinstance(value, Mapping):
            yield value
        elif isinstance(value, list):
            yield from value
