"""Bytes to messages: strict, bounded, and clear about what is wrong."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode, encode, outline
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import MESSAGE_TYPES, TaskFinal, type_of
from tests.unit.protocol.builders import chunk, final, snapshot, status


def document(**changes: Any) -> bytes:
    envelope = json.loads(encode(final(1, texts=["x"])))
    envelope.update(changes)
    return json.dumps({key: value for key, value in envelope.items() if value != "drop"}).encode()


@pytest.mark.parametrize(
    "message", [status(1, TaskState.WORKING), chunk(1, "a"), final(2), snapshot(3, ["a"])]
)
def test_what_is_encoded_decodes_to_the_same_message(message: TaskFinal) -> None:
    again = decode(encode(message))

    assert encode(again) == encode(message)
    assert type_of(again) == type_of(message)


def test_half_a_character_is_a_protocol_error_and_no_accident_of_the_encoder() -> None:
    with pytest.raises(ProtocolError, match="surrogates not allowed"):
        encode(chunk(1, "half \ud83d a character"))


def test_unknown_attributes_and_members_are_ignored() -> None:
    message = decode(document(color="red"))

    assert isinstance(message, TaskFinal)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "dev.dragoman.task.invented"}, "UNKNOWN_TYPE"),
        ({"protocolversion": "2.0"}, "UNSUPPORTED_VERSION"),
        ({"protocolversion": "2.0", "type": "dev.dragoman.later"}, "UNSUPPORTED_VERSION"),
        ({"protocolversion": "banana"}, "INVALID_MESSAGE"),
        ({"type": "drop"}, "INVALID_MESSAGE"),
        ({"specversion": "0.3"}, "INVALID_MESSAGE"),
        ({"time": "yesterday"}, "INVALID_MESSAGE"),
        ({"id": ""}, "INVALID_MESSAGE"),
        ({"source": None}, "INVALID_MESSAGE"),
        ({"data": []}, "INVALID_MESSAGE"),
    ],
)
def test_a_refusal_has_the_right_code(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode(document(**changes))

    assert refused.value.code == code


def test_a_version_refusal_lists_what_is_supported() -> None:
    with pytest.raises(ProtocolError) as refused:
        decode(document(protocolversion="3.7"))

    assert refused.value.details["supportedVersions"] == ["1.0"]


def test_a_later_minor_version_is_understood() -> None:
    assert decode(document(protocolversion="1.9")).protocolversion == "1.9"


def test_a_message_larger_than_the_limit_is_not_parsed() -> None:
    with pytest.raises(ProtocolError) as refused:
        decode(b"[" * 100, maximum_bytes=99)

    assert refused.value.code == "PAYLOAD_TOO_LARGE"


@pytest.mark.parametrize(
    "junk", [b"", b"\xff\xfe", b"null", b"[]", b'{"a":' * 5000, b'{"type":', b"\x00" * 10, b"{}"]
)
def test_junk_is_refused_with_a_protocol_error(junk: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(junk)
    outline(junk)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoder_raise_anything_else(junk: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(junk)
    assert outline(junk).type not in MESSAGE_TYPES


@given(st.data())
def test_no_damaged_message_makes_the_decoder_raise_anything_else(data: st.DataObject) -> None:
    good = document()
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:at] + data.draw(st.binary(max_size=4)) + good[at + 1 :]
    with contextlib.suppress(ProtocolError):
        assert decode(damaged).specversion == "1.0"


def test_the_outline_names_the_task_of_an_invalid_message() -> None:
    broken = json.loads(encode(final(1)))
    broken["data"] = {"taskId": "task-9", "nonsense": True}

    assert outline(json.dumps(broken).encode()).task_id == "task-9"
