"""The caller judges by the contract, also where it need not look at the content."""

from __future__ import annotations

from typing import Any

import pytest

from dragoman_bus.client.contracts import check_input
from dragoman_bus.protocol.contracts import input_from_message, make_contract, message_for_input
from dragoman_bus.protocol.errors import InvalidInput
from dragoman_bus.validation import validate_value

TEXT = {"type": "string"}
SHAPES: dict[str, dict[str, Any]] = {
    "any text": {"type": "object", "properties": {"text": TEXT}, "required": ["text"]},
    "any text and nothing else": {
        "type": "object",
        "properties": {"text": TEXT},
        "required": ["text"],
        "additionalProperties": False,
    },
    "short text": {"type": "object", "properties": {"text": {"type": "string", "maxLength": 3}}},
    "a number": {"type": "object", "properties": {"text": {"type": "number"}}},
    "another member too": {
        "type": "object",
        "properties": {"text": TEXT, "to": TEXT},
        "required": ["text", "to"],
    },
    "another member instead": {
        "type": "object",
        "properties": {"text": TEXT},
        "required": ["to"],
    },
    "two members": {"type": "object", "properties": {"text": TEXT}, "minProperties": 2},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", ["", "ok", "four", {"text": "four"}, {"text": 4}, {"to": "x"}])
def test_what_the_caller_lets_pass_is_what_the_schema_allows(shape: str, value: Any) -> None:
    schema = SHAPES[shape]
    contract = make_contract("skill", schema, TEXT, text_input="text")
    message = message_for_input("m", value)
    document = value if isinstance(value, dict) else {"text": value}
    assert bytes(input_from_message(message, "text"))
    if validate_value(schema, document):
        with pytest.raises(InvalidInput):
            check_input(contract, message)
    else:
        check_input(contract, message)


def test_text_without_a_place_in_the_input_is_refused() -> None:
    contract = make_contract("skill", SHAPES["any text"], TEXT)
    with pytest.raises(InvalidInput, match="no plain text"):
        check_input(contract, message_for_input("m", "text"))
