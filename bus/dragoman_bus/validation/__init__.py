"""The reference validator: documents judged by JSON Schema, with the reason in plain words."""

from __future__ import annotations

from dragoman_bus.validation.difference import Difference, compare
from dragoman_bus.validation.documents import load_schemas, message_types, validate_document
from dragoman_bus.validation.values import Violation, validate_value, violations_as_details

__all__ = [
    "Difference",
    "Violation",
    "compare",
    "load_schemas",
    "message_types",
    "validate_document",
    "validate_value",
    "violations_as_details",
]
