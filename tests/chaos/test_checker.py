"""The checker sees what it is there to see."""

from __future__ import annotations

import itertools

from msgspec import UNSET

from dragoman_bus.protocol.a2a import (
    Artifact,
    Message,
    Role,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
    text_part,
)
from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.messages import (
    Envelope,
    TaskArtifact,
    TaskFinal,
    TaskStatusUpdate,
    TaskSubmit,
)
from dragoman_bus.protocol.payloads import ArtifactData, FinalData, StatusData, SubmitData
from dragoman_bus.protocol.subjects import log_subject
from dragoman_bus.transports.streams import Stored
from tests.chaos.checker import Promise, Report, check
from tests.chaos.workload import Order

ORDER = Order(task_id="t", kind="quick", input={"word": "a", "size": 1}, expected="a")
WORDS = itertools.count()
SENDER = Sender(agent_source("chaos", "chaos-1"), lambda: 0.0, lambda: f"id-{next(WORDS)}")


def submitted() -> tuple[str, Envelope]:
    message = Message(message_id="m", role=Role.USER, parts=[text_part("a")])
    return "submit", SENDER.wrap(TaskSubmit, SubmitData(task_id="t", skill="s", message=message))


def status(attempt: int, sequence: int, state: TaskState) -> tuple[str, Envelope]:
    event = TaskStatusUpdateEvent(task_id="t", context_id="t", status=TaskStatus(state=state))
    data = StatusData(status_update=event, sequence=sequence, attempt=attempt)
    return "state", SENDER.wrap(TaskStatusUpdate, data)


def claim(attempt: int) -> tuple[str, Envelope]:
    return status(attempt, 1, TaskState.WORKING)


def chunk(attempt: int, sequence: int) -> tuple[str, Envelope]:
    artifact = Artifact(artifact_id="output", parts=[text_part("a")])
    event = TaskArtifactUpdateEvent(task_id="t", context_id="t", artifact=artifact)
    data = ArtifactData(artifact_update=event, sequence=sequence, attempt=attempt)
    return "update", SENDER.wrap(TaskArtifact, data)


def final(
    attempt: int, sequence: int, text: str = "a", state: TaskState = TaskState.COMPLETED
) -> tuple[str, Envelope]:
    event = TaskStatusUpdateEvent(task_id="t", context_id="t", status=TaskStatus(state=state))
    output = [Artifact(artifact_id="output", parts=[text_part(text)])]
    data = FinalData(
        status_update=event, sequence=sequence, attempt=attempt, artifacts=output or UNSET
    )
    return "state", SENDER.wrap(TaskFinal, data)


def judged(*entries: tuple[str, Envelope], order: Order = ORDER) -> Report:
    stored = [
        Stored(log_subject("t", kind), encode(message), position, float(position))
        for position, (kind, message) in enumerate(entries, 1)
    ]
    return check(stored, [], [Promise(order=order)])


def test_a_whole_history_is_free_of_violations() -> None:
    report = judged(submitted(), claim(1), chunk(1, 2), final(1, 3))
    assert report.violations == []
    assert report.ends == {"COMPLETED": 1}


def test_an_accepted_task_without_a_log_is_lost() -> None:
    assert check([], [], [Promise(order=ORDER)]).violations != []


def test_a_task_without_an_end_is_lost() -> None:
    assert "no end" in str(judged(submitted(), claim(1)).violations)


def test_two_ends_are_found() -> None:
    assert "2 ends" in str(judged(submitted(), claim(1), final(1, 2), final(1, 3)).violations)


def test_an_update_after_the_end_is_found() -> None:
    report = judged(submitted(), claim(1), final(1, 2), chunk(1, 3))
    assert "follows the end" in str(report.violations)


def test_attempts_that_go_back_are_found() -> None:
    report = judged(submitted(), claim(1), claim(1), final(1, 2))
    assert "attempts are [1, 1]" in str(report.violations)


def test_a_gap_in_the_sequence_is_found() -> None:
    report = judged(submitted(), claim(1), chunk(1, 4), final(1, 5))
    assert "goes from 1 to 4" in str(report.violations)


def test_a_wrong_output_is_found() -> None:
    report = judged(submitted(), claim(1), final(1, 2, text="b"))
    assert "output" in str(report.violations)


def test_a_cancel_nobody_asked_for_is_found() -> None:
    report = judged(submitted(), claim(1), final(1, 2, state=TaskState.CANCELED))
    assert "nobody asked" in str(report.violations)


def test_a_failure_without_a_dead_letter_is_found() -> None:
    report = judged(submitted(), claim(1), final(1, 2, state=TaskState.FAILED))
    assert "0 dead letters, not 1" in str(report.violations)
