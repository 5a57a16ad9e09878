"""Arithmetic of windows and leases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.protocol.errors import FlowExceeded
from dragoman_bus.protocol.flow import ReadWindow, SendWindow
from dragoman_bus.protocol.leases import LeaseTable


def test_a_sender_without_a_window_is_never_held_back() -> None:
    assert SendWindow(None).may_send(10**9)


def test_a_sender_waits_at_the_edge_until_the_reader_moves_it() -> None:
    window = SendWindow(4)

    assert window.may_send(4)
    assert not window.may_send(5)
    assert window.acknowledge(1)
    assert window.may_send(5)
    assert not window.acknowledge(1)


@given(st.integers(1, 300), st.integers(1, 2000))
def test_sender_and_reader_never_deadlock_and_never_exceed(size: int, messages: int) -> None:
    send, read = SendWindow(size), ReadWindow(size)
    for sequence in range(1, messages + 1):
        assert send.may_send(sequence)
        read.check(sequence, "t")
        through = read.read(sequence)
        if through is not None:
            send.acknowledge(through)


def test_a_reader_refuses_what_the_window_forbids_but_not_the_final() -> None:
    window = ReadWindow(2)
    window.check(3, "t")

    with pytest.raises(FlowExceeded):
        window.check(4, "t")


def test_a_lease_ends_unless_it_is_renewed() -> None:
    table: LeaseTable[str] = LeaseTable()
    assert table.renew("a", "one", 10, now=0)
    assert not table.renew("a", "two", 10, now=5)

    assert table.expire(10) == []
    assert table.expire(15) == [("a", "two")]
    assert "a" not in table
    assert table.expire(99) == []


def test_goodbye_is_at_once() -> None:
    table: LeaseTable[str] = LeaseTable()
    table.renew("a", "one", 10, now=0)

    assert table.release("a") == "one"
    assert table.release("a") is None
    assert table.expire(99) == []


def test_many_renewals_do_not_pile_up() -> None:
    table: LeaseTable[int] = LeaseTable()
    for now in range(10_000):
        table.renew("a", now, 10, now=float(now))

    assert len(table._order) < 200
    assert table.next_expiry() is not None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 20)), max_size=40))
def test_a_table_agrees_with_the_plain_definition(renewals: list[tuple[str, int]]) -> None:
    table: LeaseTable[int] = LeaseTable()
    until: dict[str, float] = {}
    for now, (key, lease) in enumerate(renewals):
        table.renew(key, now, lease, float(now))
        until[key] = float(now + lease)
    end = float(len(renewals))
    table.expire(end)

    assert set(table.keys()) == {key for key, expiry in until.items() if expiry > end}


def test_a_snapshot_counts_as_read() -> None:
    window = ReadWindow(8)
    window.read(3)
    window.credit(7)

    window.check(7 + 8 + 1, "t")
    with pytest.raises(FlowExceeded):
        window.check(7 + 8 + 2, "t")
