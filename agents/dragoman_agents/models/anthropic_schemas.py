"""Which JSON Schemas Claude enforces, and how they are told to it.

The SDK knows the dialect: it moves what the provider does not enforce into descriptions, and
closes every object. A schema that means something else when its objects are closed, or that the
SDK cannot translate, is not enforced: the model is told it in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["enforceable_schema"]

Translate = Callable[[dict[str, Any]], dict[str, Any]]


def enforceable_schema(schema: Mapping[str, Any], translate: Translate) -> dict[str, Any] | None:
    """``schema`` in the provider's dialect; ``None`` when it cannot be enforced.

    Args:
        schema: Any JSON Schema.
        translate: The SDK's ``transform_schema``.
    """
    if not _can_be_closed(schema):
        return None
    try:
        return translate(dict(schema))
    except (AssertionError, AttributeError, TypeError, ValueError):
        # It knows neither lists of types nor boolean schemas, among others.
        return None


def _can_be_closed(schema: Any) -> bool:
    """Whether no object in the schema lives from members that it does not name."""
    if isinstance(schema, list):
        return all(_can_be_closed(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object":
        named = isinstance(schema.get("properties"), Mapping)
        if not named or schema.get("additionalProperties") or "patternProperties" in schema:
            return False
    return all(_can_be_closed(value) for value in schema.values())
