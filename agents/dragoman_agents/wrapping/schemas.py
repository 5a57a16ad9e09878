"""Types of other libraries as JSON Schemas, and their values as JSON values."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from dragoman_agents.signature import schema_of_type
from dragoman_bus.protocol.errors import NotConfigured, RemoteError

__all__ = ["json_value", "schema_of"]


def schema_of(kind: Any) -> dict[str, Any] | None:
    """The JSON Schema of a type, or the one that is given; ``None`` for text.

    Raises:
        NotConfigured: the type has no JSON form.
    """
    if kind is None or kind is str:
        return None
    if isinstance(kind, Mapping):
        return dict(kind)
    try:
        if hasattr(kind, "__struct_fields__") or "pydantic" not in sys.modules:
            return schema_of_type(kind)
        # Whoever uses a framework has loaded pydantic; it knows msgspec's types too, but Structs.
        from pydantic import TypeAdapter

        schema: dict[str, Any] = TypeAdapter(kind).json_schema(mode="serialization")
    except (TypeError, ValueError, RuntimeError) as error:
        raise NotConfigured(f"{kind!r} has no JSON Schema: {error}") from None
    return schema


def json_value(value: Any) -> Any:
    """``value`` in builtins, however it is nested.

    Raises:
        RemoteError: ``INVALID_OUTPUT``: it holds something that JSON cannot.
    """
    try:
        return msgspec.to_builtins(value, enc_hook=_dumped)
    except (TypeError, ValueError, NotImplementedError, RecursionError) as error:
        raise RemoteError(
            f"the answer cannot be told as JSON: {error}; give answer=, which takes the text or "
            "the data out of it",
            code="INVALID_OUTPUT",
            side_effects="possible",
        ) from None


def _dumped(value: Any) -> Any:
    """A model of pydantic, whose classes are not known here."""
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise NotImplementedError(f"objects of type {type(value).__qualname__} are not JSON")
    return dump(mode="json", by_alias=True)
