"""What a server sends is split into messages and the rest, however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.transports.nats.wire import MessageSplitter, header_block, parse_headers
from dragoman_bus.transports.port import Delivery, Handler

STREAM = (
    b"PING\r\n"
    b"MSG a.b 1 5\r\nhello\r\n"
    b"MSG a.b 1 _INBOX.x.1 0\r\n\r\n"
    b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
    b"HMSG a.b 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"
    b"HMSG a.b 1 back 21 23\r\nNATS/1.0\r\nK: v: w\r\n\r\n\r\n\r\n"
    b"MSG other 2 4\r\nMSG \r\n"
    b"PONG\r\n"
)
OURS = [
    Delivery("a.b", b"hello"),
    Delivery("a.b", b"", "_INBOX.x.1"),
    Delivery("a.b", b"hello"),
    Delivery("a.b", b"\r\n", "back", {"K": "v: w"}),
]
FOR_NATS_PY = (
    b"PING\r\n-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
    b"MSG other 2 4\r\nMSG \r\nPONG\r\n"
)


def split(chunks: list[bytes]) -> tuple[list[Delivery], bytes]:
    deliveries: list[Delivery] = []
    handlers: dict[int, Handler] = {1: deliveries.append}
    splitter = MessageSplitter(handlers.get)
    return deliveries, b"".join(splitter.feed(chunk) for chunk in chunks)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_cuts_between_reads_change_nothing(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in itertools.pairwise(bounds)]
    deliveries, rest = split(chunks)
    assert deliveries == OURS
    assert rest == FOR_NATS_PY


def test_single_bytes_give_the_same_messages() -> None:
    deliveries, rest = split([bytes([byte]) for byte in STREAM])
    assert (deliveries, rest) == (OURS, FOR_NATS_PY)


def test_messages_of_subscriptions_that_are_gone_go_to_nats_py() -> None:
    assert split([b"MSG a 7 2\r\nhi\r\n"]) == ([], b"MSG a 7 2\r\nhi\r\n")


def test_what_is_malformed_goes_to_nats_py_with_all_that_follows() -> None:
    for bad in (b"MSG a x 2\r\nhi\r\n", b"MSG a\r\n", b"MSG a 1 2 3 four\r\n"):
        assert split([bad + b"MSG a 1 2\r\nhi\r\n"]) == ([], bad + b"MSG a 1 2\r\nhi\r\n")


def test_the_statuses_of_the_server_are_headers() -> None:
    assert parse_headers(b"NATS/1.0 503\r\n\r\n") == {"Status": "503"}
    assert parse_headers(b"NATS/1.0 404 No Messages\r\n\r\n") == {
        "Status": "404",
        "Description": "No Messages",
    }
    assert parse_headers(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 7\r\n\r\n") == {
        "Status": "100",
        "Description": "Idle Heartbeat",
        "Nats-Last-Stream": "7",
    }


def test_headers_that_are_not_utf_8_do_not_stop_the_others() -> None:
    assert parse_headers(b"NATS/1.0\r\nA: \xff\r\n\xff: x\r\nB:1\r\nnone\r\n\r\n") == {
        "A": "�",
        "B": "1",
    }
    assert parse_headers(b"NATS/1.0\r\n\r\n") is None


NAMES = st.from_regex(r"[A-Za-z0-9-]+", fullmatch=True)
VALUES = st.from_regex(r"[!-~]([ -~]*[!-~])?", fullmatch=True)


@given(st.dictionaries(NAMES, VALUES, min_size=1).filter(lambda headers: "Status" not in headers))
def test_headers_come_back_as_they_were_written(headers: dict[str, str]) -> None:
    block = header_block(headers)

    assert block is not None
    assert parse_headers(block) == headers


@pytest.mark.parametrize(
    "headers",
    [
        {"a": "b\r\nNats-Msg-Id: c"},
        {"a": "b\n"},
        {"a\r\nb": "c"},
        {"a:b": "c"},
        {"": "c"},
        {"a": ""},
        {"a": " b"},
        {"a": "caf\u00e9"},
    ],
)
def test_headers_that_are_not_plain_are_left_to_nats_py(headers: dict[str, str]) -> None:
    assert header_block(headers) is None
