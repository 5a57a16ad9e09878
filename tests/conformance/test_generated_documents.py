"""Documents made from the schemas by hypothesis: schema and codec must agree on every one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.validation import load_schemas, message_types, validate_document

BASE = "https://dragoman.dev/schemas/1.0/"
EXAMPLES_PER_TYPE = 120

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


def resolve(reference: str, home: str) -> tuple[Any, str]:
    """What a reference refers to, and the file it stands in."""
    name, _, pointer = reference.partition("#")
    file = name or home
    schema = load_schemas()[BASE + file]
    for step in pointer.split("/")[1:]:
        schema = schema[step]
    return schema, file


def values(schema: Any, home: str) -> st.SearchStrategy[Any]:
    """Values that a schema of ours accepts; ``home`` is the file it stands in."""
    if "$ref" in schema:
        return st.deferred(lambda: values(*resolve(schema["$ref"], home)))
    if "anyOf" in schema:
        return st.one_of(*(values(branch, home) for branch in schema["anyOf"]))
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    makers = {"object": objects, "array": arrays, "string": strings}
    kind = schema.get("type")
    if kind in makers:
        return makers[kind](schema, home)
    if kind == "integer":
        return st.integers(schema.get("minimum", -5), schema.get("maximum", 2**53 - 1))
    if kind == "number":
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1e6))
        top = schema.get("maximum", 1e6)
        return st.floats(low, top, exclude_min="exclusiveMinimum" in schema) | st.integers(
            int(low) + 1, int(top)
        )
    return st.booleans() if kind == "boolean" else anything


def strings(schema: Any, home: str) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        # Python's $ also matches before a final newline; that of a schema does not.
        return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z", fullmatch=True)
    return st.text(min_size=schema.get("minLength", 0), max_size=12)


def arrays(schema: Any, home: str) -> st.SearchStrategy[list[Any]]:
    low = schema.get("minItems", 0)
    return st.lists(values(schema.get("items", {}), home), min_size=low, max_size=low + 2)


def objects(schema: Any, home: str) -> st.SearchStrategy[dict[str, Any]]:
    properties = {name: values(inner, home) for name, inner in schema.get("properties", {}).items()}
    if not properties:
        return st.dictionaries(st.text(max_size=5), anything, max_size=2)
    if "oneOf" in schema:
        contents = [branch["required"][0] for branch in schema["oneOf"]]
        others = {name: made for name, made in properties.items() if name not in contents}
        return st.sampled_from(contents).flatmap(
            lambda name: st.fixed_dictionaries({name: properties[name]}, optional=others)
        )
    required = {name: properties[name] for name in schema.get("required", ())}
    optional = {name: made for name, made in properties.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional)


def messages(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    file = f"{kind.removeprefix('dev.dragoman.')}.json"
    envelope, own = load_schemas()[BASE + "envelope.json"], load_schemas()[BASE + file]
    properties = {
        **envelope["properties"],
        **own["properties"],
        # Only versions of this major are messages of this schema.
        "protocolversion": envelope["properties"]["protocolversion"],
    }
    whole = {"type": "object", "properties": properties, "required": envelope["required"]}
    return objects(whole, file)


def accepted(document: bytes) -> bool:
    try:
        decode(document)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize("kind", message_types())
def test_schema_and_codec_agree_on_generated_documents(kind: str) -> None:
    @settings(
        max_examples=EXAMPLES_PER_TYPE,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    @given(messages(kind), st.sampled_from(["as it is", "drop", "replace"]), st.data())
    def agree(message: dict[str, Any], change: str, data: st.DataObject) -> None:
        if change != "as it is":
            place = data.draw(st.sampled_from([message, message["data"]]))
            if place:
                name = data.draw(st.sampled_from(sorted(place)))
                if change == "drop":
                    del place[name]
                else:
                    place[name] = data.draw(anything)
        document = json.dumps(message).encode()
        violations = validate_document(document)
        assert accepted(document) == (violations == []), violations

    agree()
