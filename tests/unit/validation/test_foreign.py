"""Foreign schemas within bounds: hostile ones end soon, honest ones are judged as always."""

from __future__ import annotations

from typing import Any

import pytest

from dragoman_bus.validation import validate_value
from dragoman_bus.validation.compiled import compile_schema
from dragoman_bus.validation.foreign import is_cheap, violations_of_foreign


def doubling(levels: int) -> dict[str, Any]:
    """Each definition refers twice to the next."""
    definitions: dict[str, Any] = {
        f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": definitions | {f"d{levels}": {"type": "string"}}}


def wide(levels: int) -> dict[str, Any]:
    """A type with two members of a type with two members, and so on."""
    definitions: dict[str, Any] = {
        f"d{level}": {
            "type": "object",
            "properties": {name: {"$ref": f"#/$defs/d{level + 1}"} for name in "ab"},
        }
        for level in range(levels)
    }
    return {"$ref": "#/$defs/d0", "$defs": definitions | {f"d{levels}": {"type": "string"}}}


HOSTILE: list[tuple[Any, Any]] = [
    ({"pattern": "^(a+)+$"}, "a" * 60 + "!"),
    ({"pattern": "^(a|a)*$"}, "a" * 60 + "!"),
    ({"pattern": r"^(\w+\s?)*$"}, "word " * 30 + "!"),
    ({"pattern": r"(a*)*b\1"}, "a" * 60),
    ({"pattern": "a*a*a*a*a*a*b"}, "a" * 2000),
    ({"patternProperties": {"^(a+)+$": False}}, {"a" * 60 + "!": 1}),
    ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, {"a" * 60 + "!": 1}),
    (doubling(60), "x"),
    ({"uniqueItems": True}, [{"n": n} for n in range(100_000)]),
    ({"$ref": "#"}, "x"),
    ({"$ref": "https://example.com/schema.json"}, "x"),
    ({"pattern": "("}, "x"),
    ({"type": 7}, "x"),
    ({"description": "x" * 300_000, "type": "integer"}, "x"),
]


@pytest.mark.parametrize(("schema", "value"), HOSTILE, ids=lambda part: str(part)[:40])
def test_a_hostile_schema_ends_soon_and_decides_nothing(schema: Any, value: Any) -> None:
    assert violations_of_foreign(schema, value) == []


HONEST: list[tuple[Any, Any]] = [
    ({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}, {"a": 1.0}),
    ({"type": "object", "required": ["a"]}, {}),
    ({"type": "string", "pattern": "^[a-z]+-[0-9]{4}$"}, "abc"),
    ({"type": "string", "pattern": "^(red|green|blue)$"}, "yellow"),
    ({"type": "array", "uniqueItems": True}, [1, 1]),
    ({"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False}, {"y": 1}),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, 1),
]


@pytest.mark.parametrize(("schema", "value"), HONEST, ids=lambda part: str(part)[:40])
def test_an_honest_schema_is_judged_as_by_the_reference(schema: Any, value: Any) -> None:
    assert violations_of_foreign(schema, value) == validate_value(schema, value) != []


def test_an_expression_is_cheap_by_its_loops_and_the_length_of_the_text() -> None:
    assert is_cheap("^[a-z]+$", 1000)
    assert not is_cheap("^[a-z]+$", 1_000_000)
    assert is_cheap(r"^\d{4}-\d{2}-\d{2}$", 10_000)
    assert not is_cheap("^(a{1,9}){1,9}$", 10)


def test_a_type_that_would_double_without_end_is_not_compiled() -> None:
    assert compile_schema(wide(60)) is None
    assert compile_schema({"type": "string", "pattern": "^(a+)+$"}) is None
    assert compile_schema(wide(3)) is not None
