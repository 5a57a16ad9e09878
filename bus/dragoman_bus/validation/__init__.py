"""The reference validator: documents judged by JSON Schema, with the reason in plain words."""

from __future__ import annotations

from dragoman_bus.validation.values import Violation, validate_value

__all__ = ["Violation", "validate_value"]
