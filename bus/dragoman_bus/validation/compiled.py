"""JSON Schemas compiled to msgspec types, as a quick first judge of valid documents.

A compiled type accepts only what the schema accepts (it is sound); it may refuse more, and not
every schema compiles. So acceptance is final, and a refusal is decided by the reference validator
(spec/decisions, "msgspec on the hot path").
"""

from __future__ import annotations

import keyword
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = ["compile_schema"]

_ANNOTATIONS = frozenset(
    {"$comment", "$defs", "$schema", "default", "deprecated", "description", "examples", "title"}
)
_STRING = {"minLength": "min_length", "maxLength": "max_length"}
"""No patterns: a regular expression of somebody else's may run for ever (spec/security.md)."""
_NUMBER = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
_ARRAY = {"minItems": "min_length", "maxItems": "max_length"}


MAXIMUM_PARTS = 2000
"""References that refer twice to what refers twice would make a type of any size."""


class _NotCompilable(Exception):
    pass


def compile_schema(schema: Any) -> Any | None:
    """A msgspec type that accepts a subset of what ``schema`` accepts; ``None`` if there is none.

    Covers what signatures produce: types, bounds, enums of strings, objects with properties,
    arrays, nullable values, and references into ``$defs`` that are not recursive.
    """
    try:
        definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
        compiled = _Compiler(definitions).compile(schema)
        msgspec.json.Decoder(compiled)
    except (_NotCompilable, TypeError, ValueError, RecursionError):
        return None
    return compiled


class _Compiler:
    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._open: list[str] = []
        self._left = MAXIMUM_PARTS

    def compile(self, schema: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _NotCompilable
        if schema is True or schema == {}:
            return Any
        if not isinstance(schema, dict):
            raise _NotCompilable
        members = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
        if not members:
            return Any
        if "$ref" in members:
            return self._reference(members)
        if "anyOf" in members:
            return self._nullable(members)
        if "enum" in members:
            return self._enumeration(members)
        return self._typed(members)

    def _typed(self, members: dict[str, Any]) -> Any:
        kind = members.pop("type", None)
        if kind == "string":
            return _bounded(str, members, _STRING)
        if kind == "integer":
            return _bounded(int, members, _NUMBER)
        if kind == "number":
            return _bounded(float, members, _NUMBER)
        if kind == "array":
            items = self.compile(members.pop("items", True))
            return _bounded(list[items], members, _ARRAY)  # type: ignore[valid-type]
        if kind == "object":
            return self._object(members)
        if kind in ("boolean", "null") and not members:
            return bool if kind == "boolean" else None
        raise _NotCompilable

    def _reference(self, members: dict[str, Any]) -> Any:
        reference = members.pop("$ref")
        if members or not isinstance(reference, str) or not reference.startswith("#/$defs/"):
            raise _NotCompilable
        name = reference.removeprefix("#/$defs/")
        if name in self._open or name not in self._definitions:
            raise _NotCompilable
        self._open.append(name)
        try:
            return self.compile(self._definitions[name])
        finally:
            self._open.pop()

    def _nullable(self, members: dict[str, Any]) -> Any:
        branches = members.pop("anyOf")
        if members or not isinstance(branches, list) or len(branches) != 2:
            raise _NotCompilable
        others = [branch for branch in branches if branch != {"type": "null"}]
        if len(others) != 1:
            raise _NotCompilable
        return self.compile(others[0]) | None

    def _enumeration(self, members: dict[str, Any]) -> Any:
        values = members.pop("enum")
        members.pop("type", None)
        if members or not values or not all(isinstance(value, str) for value in values):
            raise _NotCompilable
        return Literal[tuple(values)]

    def _object(self, members: dict[str, Any]) -> Any:
        properties = members.pop("properties", {})
        required = set(members.pop("required", ()))
        extra = members.pop("additionalProperties", True)
        if members or not required <= properties.keys():
            raise _NotCompilable
        if not properties:
            if extra is False:
                raise _NotCompilable
            return dict[str, self.compile(extra)]  # type: ignore[misc]
        if extra not in (True, False):
            raise _NotCompilable
        fields = [self._field(name, properties[name], name in required) for name in properties]
        return msgspec.defstruct(
            "Compiled", fields, kw_only=True, forbid_unknown_fields=extra is False
        )

    def _field(self, name: str, schema: Any, is_required: bool) -> tuple[Any, ...]:
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
            raise _NotCompilable
        compiled = self.compile(schema)
        if is_required:
            return (name, compiled)
        return (name, Any if compiled is Any else compiled | UnsetType, UNSET)


def _bounded(base: Any, members: dict[str, Any], names: dict[str, str]) -> Any:
    if not members.keys() <= names.keys():
        raise _NotCompilable
    bounds = {names[key]: value for key, value in members.items()}
    return Annotated[base, Meta(**bounds)] if bounds else base
