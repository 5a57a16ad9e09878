"""Order out of loss, repetition and reordering."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.messages import TaskUpdate
from dragoman_bus.protocol.sequencer import StreamSequencer
from tests.unit.protocol.builders import chunk, final, snapshot, status


def sequences(messages: list[TaskUpdate]) -> list[int]:
    return [message.data.sequence for message in messages]


def test_messages_in_order_pass_at_once() -> None:
    sequencer = StreamSequencer()

    assert sequences(sequencer.feed(chunk(1, "a"))) == [1]
    assert sequences(sequencer.feed(chunk(2, "b"))) == [2]
    assert not sequencer.missing


def test_an_early_message_waits_and_tells_that_something_is_missing() -> None:
    sequencer = StreamSequencer()

    assert sequencer.feed(chunk(2, "b")) == []
    assert sequencer.missing
    assert sequences(sequencer.feed(chunk(1, "a"))) == [1, 2]
    assert not sequencer.missing


def test_a_snapshot_closes_a_gap_and_releases_what_follows_it() -> None:
    sequencer = StreamSequencer()
    sequencer.feed(chunk(1, "a"))
    sequencer.feed(chunk(4, "d"))
    sequencer.feed(chunk(5, "e"))

    ready = sequencer.feed(snapshot(3, ["a", "b", "c"]))

    assert sequences(ready) == [3, 4, 5]
    assert not sequencer.missing


def test_an_old_snapshot_is_no_news() -> None:
    sequencer = StreamSequencer()
    sequencer.feed(chunk(1, "a"))

    assert sequencer.feed(snapshot(1, ["a"])) == []


def test_a_terminal_snapshot_ends_the_stream() -> None:
    sequencer = StreamSequencer()
    sequencer.feed(snapshot(7, ["a"], state=TaskState.COMPLETED))

    assert sequencer.ended
    assert sequencer.feed(final(8)) == []


def test_a_lower_attempt_is_a_zombie() -> None:
    sequencer = StreamSequencer()
    sequencer.feed(status(1, TaskState.WORKING, attempt=2))

    assert sequencer.feed(final(2, attempt=1)) == []
    assert sequencer.duplicates == 1


def test_what_waits_beyond_a_gap_is_bounded() -> None:
    sequencer = StreamSequencer(buffer_limit=10)
    for number in range(2, 100):
        sequencer.feed(chunk(number, "x"))

    assert sequencer.dropped == 88


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.lists(st.integers(1, n), min_size=0, max_size=60).flatmap(
            lambda extra: st.permutations([*range(1, n + 1), *extra])
        )
    )
)
def test_any_reordering_with_repetitions_comes_out_in_order_and_once(order: list[int]) -> None:
    last = max(order)
    log = {i: final(i) if i == last else chunk(i, str(i)) for i in range(1, last + 1)}
    sequencer = StreamSequencer()

    out = [message for number in order for message in sequencer.feed(log[number])]

    assert sequences(out) == list(range(1, last + 1))
    assert sequencer.ended
