"""The state of a task is a pure fold over its log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.contracts import text_of
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.fold import TaskFold
from dragoman_bus.protocol.messages import TaskUpdate
from dragoman_bus.protocol.payloads import Usage
from tests.unit.protocol.builders import TASK, chunk, final, snapshot, status


def fold(*messages: TaskUpdate) -> TaskFold:
    folded = TaskFold(TASK)
    for message in messages:
        folded.apply(message)
    return folded


def text(folded: TaskFold) -> str:
    return "".join(text_of(artifact.parts, separator="") or "" for artifact in folded.artifacts)


def test_a_short_task_is_its_final_message_alone() -> None:
    folded = fold(final(1, texts=["done"], usage=Usage(input_tokens=3)))

    assert folded.is_terminal
    assert text(folded) == "done"
    assert folded.usage == Usage(input_tokens=3)


def test_chunks_grow_the_output_part_by_part() -> None:
    folded = fold(chunk(1, "a"), chunk(2, "b"), chunk(3, "c"), final(4))

    assert len(folded.parts_of("output")) == 3
    assert text(folded) == "abc"


def test_a_final_artifact_replaces_the_streamed_one() -> None:
    assert text(fold(chunk(1, "draft"), final(2, texts=["fair copy"]))) == "fair copy"


def test_an_artifact_without_append_starts_over() -> None:
    assert text(fold(chunk(1, "a"), chunk(2, "b", append=False))) == "b"


def test_folding_does_not_change_the_messages() -> None:
    first = chunk(1, "a")
    fold(first, chunk(2, "b"))

    assert len(first.data.artifact_update.artifact.parts) == 1


def test_a_snapshot_replaces_what_was_folded() -> None:
    folded = fold(chunk(1, "a"), snapshot(3, ["a", "b", "c"]), chunk(4, "d"), final(5))

    assert text(folded) == "abcd"
    assert folded.sequence == 5


def test_nothing_follows_the_end() -> None:
    folded = fold(final(1))

    with pytest.raises(ProtocolError, match="TASK_STATE_COMPLETED"):
        folded.apply(status(2, TaskState.WORKING))
    with pytest.raises(ProtocolError, match="nothing more"):
        folded.apply(chunk(2, "late"))


def test_an_ended_task_has_no_further_attempt() -> None:
    with pytest.raises(ProtocolError, match="no further attempt"):
        fold(final(1), final(1, attempt=2))


def test_a_second_attempt_starts_at_sequence_one_again() -> None:
    folded = fold(
        status(1, TaskState.WORKING), status(1, TaskState.WORKING, attempt=2), final(2, attempt=2)
    )

    assert folded.attempt == 2
    assert folded.is_terminal


@given(st.lists(st.text(max_size=5), max_size=20), st.data())
def test_repeating_any_prefix_of_the_log_changes_nothing(
    texts: list[str], data: st.DataObject
) -> None:
    log: list[TaskUpdate] = [chunk(i, t) for i, t in enumerate(texts, 1)] + [final(len(texts) + 1)]
    repeated = data.draw(st.integers(0, len(log)))

    again = fold(*log[:repeated], *log[:repeated], *log[repeated:])

    assert again.task() == fold(*log).task()
    assert text(again) == "".join(texts)
