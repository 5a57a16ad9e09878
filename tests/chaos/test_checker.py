"""The checker sees what it is there to see."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw, UnsetType

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
from dragoman_bus.protocol.durable import (
    AttemptReport,
    ChildData,
    DeadLetterData,
    OutboxData,
    SettlementData,
    StepData,
)
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.messages import (
    Envelope,
    TaskArtifact,
    TaskCancel,
    TaskChild,
    TaskDeadLetter,
    TaskFinal,
    TaskOutbox,
    TaskSettlement,
    TaskStatusUpdate,
    TaskStep,
    TaskSubmit,
)
from dragoman_bus.protocol.payloads import (
    ArtifactData,
    CancelData,
    FinalData,
    StatusData,
    SubmitData,
)
from dragoman_bus.protocol.subjects import dead_letter_subject, log_subject
from dragoman_bus.transports.streams import Stored
from tests.chaos.checker import LANDING_SECONDS, Promise, Report, check
from tests.chaos.workload import Order

ORDER = Order(task_id="t", kind="quick", input={"word": "a", "size": 1}, expected="a")
HOPELESS = msgspec.structs.replace(ORDER, kind="hopeless", expected=None)
WORDS = itertools.count()
SENDER = Sender(agent_source("chaos", "chaos-1"), lambda: 0.0, lambda: f"id-{next(WORDS)}")
NOW = SENDER.now()
NEVER = error_object("SKILL_FAILED", "never")
OTHER = error_object("INTERNAL", "never")


def submitted(task_id: str = "t", **members: Any) -> tuple[str, Envelope]:
    message = Message(message_id="m", role=Role.USER, parts=[text_part("a")])
    members = {"skill": "s"} | members
    data = SubmitData(task_id=task_id, message=message, **members)
    return "submit", SENDER.wrap(TaskSubmit, data)


def status(
    attempt: int, sequence: int, state: TaskState, task_id: str = "t", **members: Any
) -> tuple[str, Envelope]:
    event = TaskStatusUpdateEvent(
        task_id=task_id, context_id=task_id, status=TaskStatus(state=state)
    )
    data = StatusData(status_update=event, sequence=sequence, attempt=attempt, **members)
    return "state", SENDER.wrap(TaskStatusUpdate, data)


def claim(attempt: int, task_id: str = "t") -> tuple[str, Envelope]:
    return status(attempt, 1, TaskState.WORKING, task_id)


def cancel(task_id: str = "t") -> tuple[str, Envelope]:
    return "control", SENDER.wrap(TaskCancel, CancelData(task_id=task_id))


def step(attempt: int, name: str, output: str) -> tuple[str, Envelope]:
    result = Raw(msgspec.json.encode(output))
    data = StepData(task_id="t", attempt=attempt, name=name, output=result)
    return "step", SENDER.wrap(TaskStep, data)


def child(attempt: int, task_id: str) -> tuple[str, Envelope]:
    data = ChildData(task_id="t", attempt=attempt, child_task_id=task_id, skill="s")
    return "child", SENDER.wrap(TaskChild, data)


def outbox(*task_ids: str) -> tuple[str, Envelope]:
    later = [submitted(task_id)[1].data for task_id in task_ids]
    return "control", SENDER.wrap(TaskOutbox, OutboxData(task_id="t", submissions=later))


def report_of(attempt: int, **members: Any) -> AttemptReport:
    began = {"source": SENDER.source, "started_at": NOW, "ended_at": NOW, "error": NEVER}
    return AttemptReport(attempt=attempt, **(began | members))


def letter(*attempts: AttemptReport, **members: Any) -> TaskDeadLetter:
    data = {"submission": submitted()[1].data, "error": NEVER} | members
    return SENDER.wrap(
        TaskDeadLetter,
        DeadLetterData(
            task_id="t", submitted_by="x", submitted_at=NOW, attempts=list(attempts), **data
        ),
    )


def settlement(redriven_as: str | UnsetType = UNSET) -> TaskSettlement:
    action: Any = "dropped" if redriven_as is UNSET else "redriven"
    data = SettlementData(task_id="t", action=action, redriven_as=redriven_as)
    return SENDER.wrap(TaskSettlement, data)


def chunk(attempt: int, sequence: int) -> tuple[str, Envelope]:
    artifact = Artifact(artifact_id="output", parts=[text_part("a")])
    event = TaskArtifactUpdateEvent(task_id="t", context_id="t", artifact=artifact)
    data = ArtifactData(artifact_update=event, sequence=sequence, attempt=attempt)
    return "update", SENDER.wrap(TaskArtifact, data)


def final(
    attempt: int,
    sequence: int,
    text: str = "a",
    state: TaskState = TaskState.COMPLETED,
    task_id: str = "t",
) -> tuple[str, Envelope]:
    event = TaskStatusUpdateEvent(
        task_id=task_id, context_id=task_id, status=TaskStatus(state=state)
    )
    data = FinalData(
        status_update=event,
        sequence=sequence,
        attempt=attempt,
        artifacts=[Artifact(artifact_id="output", parts=[text_part(text)])],
        error=NEVER if state is TaskState.FAILED else UNSET,
    )
    return "state", SENDER.wrap(TaskFinal, data)


def judged(
    *entries: tuple[str, Envelope],
    order: Order = ORDER,
    canceled: bool = False,
    letters: Iterable[Envelope] = (),
    seconds: float = 1.0,
) -> Report:
    """The verdict on a history; every entry comes ``seconds`` after the one before."""
    stored = [
        Stored(log_subject(task_of(message), kind), encode(message), position, seconds * position)
        for position, (kind, message) in enumerate(entries, 1)
    ]
    dead = [
        Stored(dead_letter_subject("s", task_of(letter)), encode(letter), 1000 + number, 0.0)
        for number, letter in enumerate(letters)
    ]
    return check(stored, dead, [Promise(order=order, canceled=canceled)])


def task_of(message: Envelope) -> str:
    data: Any = message.data
    if isinstance(data, ArtifactData):
        return data.artifact_update.task_id
    return str(data.status_update.task_id if hasattr(data, "status_update") else data.task_id)


def found(words: str, report: Report) -> bool:
    return any(words in violation for violation in report.violations)


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


def test_an_output_that_is_streamed_again_is_found() -> None:
    order = msgspec.structs.replace(ORDER, kind="stream")
    whole = final(2, 3)[1]
    streamed = msgspec.structs.replace(
        whole, data=msgspec.structs.replace(whole.data, artifacts=UNSET)
    )
    entries = [submitted(), claim(1), chunk(1, 2), claim(2)]
    assert found("streamed again", judged(*entries, chunk(2, 2), ("state", streamed), order=order))


def test_a_cancel_nobody_asked_for_is_found() -> None:
    report = judged(submitted(), claim(1), final(1, 2, state=TaskState.CANCELED))
    assert "nobody asked" in str(report.violations)


def failed(*letters: Envelope, order: Order | None = None) -> Report:
    """The verdict on a task that failed in its second attempt; the first one's worker died."""
    return judged(
        submitted(),
        claim(1),
        claim(2),
        final(2, 2, state=TaskState.FAILED),
        letters=letters,
        order=order or HOPELESS,
    )


def test_a_failure_with_a_whole_dead_letter_is_as_it_should_be() -> None:
    report = failed(letter(report_of(1), report_of(2)), settlement())
    assert report.violations == []
    assert report.dead_letters == 1


def test_a_task_that_was_taken_from_its_worker_to_be_ended_ran_once() -> None:
    taken = status(2, 1, TaskState.WORKING, error=OTHER)
    entries = [submitted(), claim(1), taken, final(2, 2, state=TaskState.FAILED)]
    whole = [letter(report_of(1)), settlement()]
    report = judged(*entries, letters=whole, order=HOPELESS)
    assert (report.violations, report.attempts) == ([], 1)
    entries.insert(3, chunk(2, 2))
    assert found("only to end the task", judged(*entries, letters=whole, order=HOPELESS))


def test_a_failure_without_a_dead_letter_is_found() -> None:
    assert found("0 dead letters, not 1", failed())


def test_a_dead_letter_of_a_task_that_did_not_fail_is_found() -> None:
    report = judged(submitted(), claim(1), final(1, 2), letters=[letter(report_of(1))])
    assert found("1 dead letters, not 0", report)


def test_two_dead_letters_are_found() -> None:
    whole = letter(report_of(1), report_of(2))
    assert found("2 dead letters, not 1", failed(whole, whole))


@pytest.mark.parametrize(
    ("attempts", "members", "words"),
    [
        ([report_of(2)], {}, "tells 1 attempts of 2"),
        ([report_of(1, source="/agents/other/x"), report_of(2)], {}, "other workers"),
        ([report_of(1, error=UNSET), report_of(2)], {}, "why attempt 1 failed"),
        ([report_of(1, ended_at=UNSET), report_of(2)], {}, "when attempt 1 ended"),
        ([report_of(1), report_of(2)], {"error": OTHER}, "another error"),
        (
            [report_of(1), report_of(2)],
            {"submission": submitted(skill="other")[1].data},
            "what was submitted",
        ),
    ],
)
def test_an_incomplete_dead_letter_is_found(
    attempts: list[AttemptReport], members: dict[str, Any], words: str
) -> None:
    assert found(words, failed(letter(*attempts, **members)))


def test_a_dead_letter_without_what_was_streamed_is_found() -> None:
    entries = [submitted(), claim(1), chunk(1, 2), final(1, 3, state=TaskState.FAILED)]
    report = judged(*entries, letters=[letter(report_of(1))], order=HOPELESS)
    assert found("what the last attempt had streamed", report)


def test_a_dead_letter_that_was_settled_twice_is_found() -> None:
    whole = letter(report_of(1), report_of(2))
    assert found("settled 2 times", failed(whole, settlement(), settlement()))


def test_a_redrive_without_its_task_is_found() -> None:
    whole = letter(report_of(1), report_of(2))
    assert found("redriven as []", failed(whole, settlement("t-r1")))


def test_a_task_that_nobody_settled_a_letter_for_is_found() -> None:
    report = judged(submitted(redrive_of="other"), claim(1), final(1, 2))
    assert found("it has no dead letter", report)


def test_a_write_of_an_earlier_attempt_is_found() -> None:
    report = judged(submitted(), claim(1), claim(2), chunk(1, 2), final(2, 2))
    assert found("of attempt 1 stands in attempt 2", report)


def test_a_step_that_was_done_twice_is_found() -> None:
    entries = [submitted(), claim(1), step(1, "part 0", "x"), claim(2), step(2, "part 0", "y")]
    assert found("done twice", judged(*entries, final(2, 2)))


def test_an_output_that_is_not_that_of_the_steps_is_found() -> None:
    order = msgspec.structs.replace(ORDER, kind="steps", expected=None)
    entries = [submitted(), claim(1), step(1, "part 0", "x")]
    assert judged(*entries, final(1, 2, text="x"), order=order).violations == []
    assert found("its output is", judged(*entries, final(1, 2, text="y"), order=order))


def test_a_cancel_that_was_accepted_and_is_not_stored_is_found() -> None:
    report = judged(submitted(), claim(1), final(1, 2), canceled=True)
    assert found("is not in the log", report)


def test_a_cancel_that_does_not_land_is_found() -> None:
    entries = [submitted(), cancel(), claim(1), final(1, 2)]
    assert judged(*entries, canceled=True).violations == []
    assert found("after its cancel", judged(*entries, canceled=True, seconds=LANDING_SECONDS))


def test_a_task_that_only_a_cancel_ends_and_that_ended_otherwise_is_found() -> None:
    order = msgspec.structs.replace(ORDER, kind="endless", expected=None)
    report = judged(submitted(), cancel(), claim(1), final(1, 2), order=order, canceled=True)
    assert found("not by its cancel", report)


def test_a_child_that_is_left_behind_is_found() -> None:
    parent = [submitted(), claim(1), child(1, "below")]
    below = [submitted("below"), claim(1, "below")]
    late = final(1, 2, task_id="below")
    assert found("ended without its cancel", judged(*parent, *below, final(1, 2), late))
    assert judged(*parent, *below, late, final(1, 2)).violations == []
    assert judged(*parent, *below, final(1, 2), cancel("below"), late).violations == []


def test_an_outbox_that_was_not_sent_is_found() -> None:
    entries = [submitted(), claim(1), final(1, 2), outbox("next")]
    assert found("not sent: next", judged(*entries))
    after = [submitted("next"), final(1, 1, task_id="next")]
    assert judged(*entries, *after).violations == []


def test_an_outbox_that_was_not_stored_is_found() -> None:
    report = judged(submitted(skill="follow"), claim(1), final(1, 2))
    assert found("without its outbox", report)


def test_ordered_tasks_that_overtake_are_found() -> None:
    first = submitted(context_id="line", ordered=True)
    second = submitted("u", context_id="line", ordered=True)
    ran = [claim(1, "u"), final(1, 2, task_id="u")]
    assert found("it began before", judged(first, second, claim(1), *ran, final(1, 2)))
    assert judged(first, second, claim(1), final(1, 2), *ran).violations == []


def test_entries_without_a_submission_are_found() -> None:
    report = check([Stored(log_subject("t", "state"), encode(claim(1)[1]), 1, 0.0)], [], [])
    assert found("belongs to no submission", report)
