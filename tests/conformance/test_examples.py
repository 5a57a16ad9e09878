"""Every example through the reference validator and through the codec, which must agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.error_registry import error_definitions
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import MESSAGE_TYPES
from dragoman_bus.schema_files import schema_directory
from dragoman_bus.validation import load_schemas, message_types, validate_document

EXAMPLES = schema_directory() / "examples"
VALID = sorted((EXAMPLES / "valid").glob("*/*.json"))
INVALID = sorted((EXAMPLES / "invalid").glob("*/*.json"))


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", VALID, ids=name_of)
def test_a_valid_example_is_accepted_by_schema_and_codec(path: Path) -> None:
    document = path.read_bytes()

    assert validate_document(document) == []
    assert type(decode(document)) is MESSAGE_TYPES[f"dev.dragoman.{path.parent.name}"]


@pytest.mark.parametrize("path", INVALID, ids=name_of)
def test_an_invalid_example_is_refused_for_its_stated_reason(path: Path) -> None:
    example = json.loads(path.read_bytes())
    document = json.dumps(example["message"]).encode()
    stated = (example["violates"]["path"], example["violates"]["rule"])

    found = [(violation.path, violation.rule) for violation in validate_document(document)]

    assert example["reason"]
    assert found == [stated]
    with pytest.raises(ProtocolError):
        decode(document)


def test_every_message_type_has_a_schema_and_enough_examples() -> None:
    assert set(message_types()) == set(MESSAGE_TYPES)
    for kind in MESSAGE_TYPES:
        folder = kind.removeprefix("dev.dragoman.")
        assert len(list((EXAMPLES / "valid" / folder).glob("*.json"))) >= 4, folder
        assert len(list((EXAMPLES / "invalid" / folder).glob("*.json"))) >= 4, folder


def test_of_every_type_at_least_two_in_five_examples_are_invalid() -> None:
    for kind in {path.parent.name for path in VALID}:
        invalid = sum(path.parent.name == kind for path in INVALID)
        valid = sum(path.parent.name == kind for path in VALID)
        assert invalid >= 0.4 * (valid + invalid), kind


def patterns(schema: Any) -> set[str]:
    inner = schema.values() if isinstance(schema, dict) else schema
    if not isinstance(schema, dict | list):
        return set()
    own = schema.get("pattern") if isinstance(schema, dict) else None
    found = {own} if isinstance(own, str) else set()
    return found.union(*(patterns(one) for one in inner))


def test_patterns_are_read_alike_by_the_engines_of_all_languages() -> None:
    # Look-around and back references are unknown to RE2 (Go); \Z and \d mean different things.
    portable = re.compile(r"\^([a-z0-9_:\-]|\[[A-Za-z0-9_-]+\]|\{[0-9,]+\}|\\\.|[A-Z()|*?])+\$")
    found = patterns(list(load_schemas().values()))
    assert len(found) >= 8
    assert [
        pattern for pattern in found if not portable.fullmatch(pattern) or "(?" in pattern
    ] == []


@pytest.mark.parametrize("schema", load_schemas().values(), ids=lambda schema: schema["title"])
def test_a_schema_is_valid_and_describes_every_property(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    assert schema["description"]
    assert undescribed(schema, "") == []


def undescribed(schema: Any, where: str) -> list[str]:
    found: list[str] = []
    if not isinstance(schema, dict):
        return found
    for key, value in schema.items():
        if key == "properties" and "description" in schema:
            found += [f"{where}/{name}" for name, p in value.items() if "description" not in p]
        if key in ("properties", "$defs"):
            for name, inner in value.items():
                found += undescribed(inner, f"{where}/{name}")
        elif isinstance(value, dict):
            found += undescribed(value, f"{where}/{key}")
    return found


def test_the_error_registry_fits_its_schema_and_has_no_code_twice() -> None:
    registry = json.loads((schema_directory() / "errors.json").read_bytes())
    shape = json.loads((schema_directory() / "errors.schema.json").read_bytes())

    Draft202012Validator(shape).validate(registry)
    assert len(error_definitions()) == len(registry["errors"])
