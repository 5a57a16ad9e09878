"""Compiled schemas are sound: what they accept, the schema accepts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dragoman_bus.validation.compiled import compile_schema

TYPICAL = {
    "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "integer"}}}},
    "title": "Input",
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1},
        "n": {"type": "integer", "minimum": 1, "default": 3},
        "to": {"enum": ["fr", "de"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "points": {"type": "array", "items": {"$ref": "#/$defs/Point"}, "maxItems": 2},
        "free": {},
    },
    "required": ["text"],
}

NOT_COVERED: list[Any] = [
    False,
    {"type": ["string", "null"]},
    {"oneOf": [{"type": "string"}, {"type": "integer"}]},
    {"type": "string", "format": "email"},
    {"type": "object", "required": ["ghost"]},
    {"type": "object", "patternProperties": {"^x": {}}},
    {"type": "object", "properties": {"not a name": {}}},
    {"$ref": "https://example.org/other.json"},
    {"$ref": "#/$defs/Tree", "$defs": {"Tree": {"$ref": "#/$defs/Tree"}}},
    {"type": "integer", "multipleOf": 3},
    {"enum": [1, 2]},
    {"type": "array", "uniqueItems": True},
]

scalars = st.none() | st.booleans() | st.integers(-3, 5) | st.floats(-2, 2) | st.text(max_size=3)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "n", "to", "note", "points", "free", "x", "other"]), inner
        )
    ),
    max_leaves=8,
)
schemas = st.recursive(
    st.sampled_from(
        [
            {"type": "string"},
            {"type": "string", "minLength": 2},
            {"type": "integer", "minimum": 0},
            {"type": "number", "exclusiveMaximum": 1},
            {"type": "boolean"},
            {"type": "null"},
            {"enum": ["a", "b"]},
            {},
        ]
    ),
    lambda inner: (
        inner.map(lambda items: {"type": "array", "items": items, "minItems": 1})
        | inner.map(lambda other: {"anyOf": [other, {"type": "null"}]})
        | st.dictionaries(st.sampled_from(["text", "n", "x"]), inner, min_size=1).map(
            lambda properties: {
                "type": "object",
                "properties": properties,
                "required": [next(iter(properties))],
                "additionalProperties": False,
            }
        )
    ),
    max_leaves=5,
)


def accepts(compiled: Any, document: object) -> bool:
    try:
        msgspec.json.decode(json.dumps(document).encode(), type=compiled)
    except msgspec.ValidationError:
        return False
    return True


def test_a_typical_contract_compiles_and_judges() -> None:
    compiled = compile_schema(TYPICAL)

    assert compiled is not None
    assert accepts(compiled, {"text": "hi", "n": 2, "to": "fr", "note": None, "extra": 1})
    for wrong in ({}, {"text": ""}, {"text": "a", "n": 0}, {"text": "a", "to": "es"}, []):
        assert not accepts(compiled, wrong)


@pytest.mark.parametrize("schema", NOT_COVERED, ids=str)
def test_what_cannot_be_compiled_is_left_to_the_reference_validator(schema: Any) -> None:
    assert compile_schema(schema) is None


@given(st.just(TYPICAL) | schemas, documents)
def test_what_a_compiled_schema_accepts_the_schema_accepts(
    schema: dict[str, Any], document: object
) -> None:
    compiled = compile_schema(schema)
    if compiled is not None and accepts(compiled, document):
        assert Draft202012Validator(schema).is_valid(document)
