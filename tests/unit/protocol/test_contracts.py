"""Typed input and output in A2A parts."""

from __future__ import annotations

import json

import msgspec
import pytest

from dragoman_bus.protocol.a2a import Artifact, Message, Part, Role, data_part, text_part
from dragoman_bus.protocol.contracts import (
    artifact_for_output,
    input_from_message,
    make_contract,
    message_for_input,
    output_from_artifact,
)
from dragoman_bus.protocol.errors import InvalidInput

OBJECT = {"type": "object", "properties": {"text": {"type": "string"}}}


def message(*parts: Part) -> Message:
    return Message(message_id="m", role=Role.USER, parts=list(parts))


def read(*parts: Part, text_input: str | None = "text") -> object:
    return json.loads(bytes(input_from_message(message(*parts), text_input)))


def test_one_data_part_is_the_input() -> None:
    assert read(data_part({"text": "hi", "n": 1})) == {"text": "hi", "n": 1}


def test_text_fills_the_member_the_contract_names() -> None:
    assert read(text_part("one"), text_part("two")) == {"text": "one\ntwo"}


def test_text_and_data_make_one_input_and_data_wins() -> None:
    assert read(text_part("words"), data_part({"n": 2})) == {"text": "words", "n": 2}
    assert read(text_part("words"), data_part({"text": "given"})) == {"text": "given"}


def test_a_message_without_text_or_data_is_an_empty_input() -> None:
    assert read(Part(url="https://example.org/a.png")) == {}


def test_text_without_a_place_two_data_parts_and_mixed_kinds_are_refused() -> None:
    for parts, text_input in (
        ((text_part("x"),), None),
        ((data_part({}), data_part({})), "text"),
        ((text_part("x"), data_part([1])), "text"),
    ):
        with pytest.raises(InvalidInput):
            input_from_message(message(*parts), text_input)


@pytest.mark.parametrize("value", ["text", "", {"a": 1}, [1, 2], 3, 1.5, True, None])
def test_any_output_travels_in_an_artifact(value: object) -> None:
    encoded = msgspec.json.encode(artifact_for_output(value))

    assert output_from_artifact(msgspec.json.decode(encoded, type=Artifact)) == value


def test_input_travels_as_text_or_data() -> None:
    assert message_for_input("m", "words").parts == [text_part("words")]
    assert read(*message_for_input("m", {"n": 1}).parts) == {"n": 1}


def test_a_contract_is_named_by_its_schemas_alone() -> None:
    one = make_contract("summarize", OBJECT, {"type": "string"}, text_input="text")
    other = make_contract("sum-up", dict(OBJECT), {"type": "string"}, text_input="text")

    assert one.digest == other.digest
    assert one.digest != make_contract("summarize", OBJECT, {"type": "object"}).digest


@pytest.mark.parametrize("part", ['{"text":"a","url":"b"}', "{}", '{"mediaType":"text/plain"}'])
def test_a_part_has_exactly_one_content(part: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="exactly one"):
        msgspec.json.decode(part, type=Part)
