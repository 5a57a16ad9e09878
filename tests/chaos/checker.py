"""Reads the logs of all tasks and says what must not be: lost, ended twice, written after the end.

It knows nothing of how the run was made: only the stored entries, and what callers were told. It
looks at the entries themselves; only what a task produced is folded by the code under test.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.messages import (
    TaskArtifact,
    TaskCancel,
    TaskFinal,
    TaskStatusUpdate,
    TaskStep,
)
from dragoman_bus.protocol.tasklog import LogEntry, LogFold
from dragoman_bus.transports.streams import Stored
from tests.chaos.history import TaskLog, attempt_of, ends, letters_of, logs_of
from tests.chaos.relations import judge_relations
from tests.chaos.workload import ENDLESS, Order

__all__ = ["LANDING_SECONDS", "Promise", "Report", "check"]

CONTROL = "control"

LANDING_SECONDS = 60.0
"""How long after its cancel a task may end otherwise: supervisors and workers are killed, too."""

TORN = ("AGENT_LOST", "DEADLINE_EXCEEDED", "OVERLOADED", "SKILL_FAILED", "CANCELED")
"""Ways to fail under chaos; each is an end, and has a dead letter."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller was told: the task was accepted; perhaps also that its cancel was."""

    order: Order
    canceled: bool = False


class Report(msgspec.Struct, kw_only=True):
    """What the checker found.

    ``digest`` names the history: of every task its end and its attempts.
    """

    tasks: int
    entries: int
    ends: dict[str, int]
    attempts: int
    cancels: int
    dead_letters: int
    violations: list[str]
    digest: str


def check(
    stored: Iterable[Stored], letters: Iterable[Stored], promises: Iterable[Promise]
) -> Report:
    """Judge a finished run.

    Args:
        stored: Everything in the logs, in order of position.
        letters: Everything among the dead letters.
        promises: What callers were told.
    """
    logs, dead = logs_of(stored), letters_of(letters)
    told = {promise.order.task_id: promise for promise in promises}
    violations = [
        f"{task_id}: accepted, and there is no submission"
        for task_id in told
        if task_id not in logs or logs[task_id].submission is None
    ]
    for task_id, log in logs.items():
        violations += [f"{task_id}: {words}" for words in _judge(log, told.get(task_id))]
    violations += judge_relations(logs, dead)
    return Report(
        tasks=sum(log.submission is not None for log in logs.values()),
        entries=sum(len(log.entries) for log in logs.values()),
        ends=dict(sorted(Counter(log.state for log in logs.values() if log.submission).items())),
        attempts=sum(len(log.runs) for log in logs.values()),
        cancels=sum(bool(log.of(CONTROL, TaskCancel)) for log in logs.values()),
        dead_letters=sum(len(of_task.letters) for of_task in dead.values()),
        violations=violations,
        digest=_digest(logs),
    )


def _judge(log: TaskLog, promise: Promise | None) -> list[str]:
    """What is wrong with one log, by itself and with what its caller was told."""
    if log.submission is None:
        return [
            f"a {entry.kind} at {entry.position} belongs to no submission"
            for entry in log.entries
            # A child is noted, and with its parent's end canceled, before it is submitted.
            if not isinstance(entry.message, TaskCancel)
        ]
    wrong = [] if log.end else ["it has no end"]
    ends = len(log.of("state", TaskFinal))
    wrong += [f"it has {ends} ends"] if ends > 1 else []
    for rule in (_after_the_end, _attempts, _fences, _sequences, _steps, _fold, _landing):
        wrong += rule(log)
    if promise is not None and log.final is not None:
        wrong += _kept(promise, log, log.final)
    return wrong


def _after_the_end(log: TaskLog) -> list[str]:
    if log.end is None:
        return []
    return [
        f"a {entry.kind} at {entry.position} follows the end"
        for entry in log.entries
        if entry.position > log.end.position and entry.kind != CONTROL
    ]


def _attempts(log: TaskLog) -> list[str]:
    claims = [attempt_of(entry) for entry in log.claims]
    return [] if claims == list(range(1, len(claims) + 1)) else [f"its attempts are {claims}"]


def _fences(log: TaskLog) -> list[str]:
    """Whatever a worker writes belongs to the latest claim: no zombie writes between others."""
    present, ending, wrong = 0, False, []
    for entry in log.entries:
        attempt = attempt_of(entry)
        if entry in log.claims:
            present, ending = attempt or 0, ends(entry)
        elif attempt is not None and attempt != max(1, present):
            wrong.append(f"a {entry.kind} of attempt {attempt} stands in attempt {present}")
        elif ending and attempt is not None and not isinstance(entry.message, TaskFinal):
            wrong.append(f"a {entry.kind} of attempt {attempt}, which was only to end the task")
    return wrong


def _sequences(log: TaskLog) -> list[str]:
    """Each attempt counts 1, 2, 3, …; an entry may be stored twice when an answer was lost."""
    last: dict[int, int] = defaultdict(int)
    wrong = []
    for entry in log.entries:
        message = entry.message
        if not isinstance(message, TaskStatusUpdate | TaskArtifact | TaskFinal):
            continue
        attempt, sequence = message.data.attempt, message.data.sequence
        if sequence not in (last[attempt], last[attempt] + 1):
            wrong.append(f"attempt {attempt} goes from {last[attempt]} to {sequence}")
        last[attempt] = max(last[attempt], sequence)
    return wrong


def _steps(log: TaskLog) -> list[str]:
    seen: dict[str, bytes] = {}
    wrong = []
    for step in log.of("step", TaskStep):
        output = bytes(step.data.output)
        if seen.setdefault(step.data.name, output) != output:
            wrong.append(f"step {step.data.name!r} was done twice")
    return wrong


def _fold(log: TaskLog) -> list[str]:
    try:
        _folded(log)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return [f"it does not fold: {error}"]
    return []


def _folded(log: TaskLog) -> LogFold:
    fold = LogFold(log.task_id)
    for entry in log.entries:
        fold.apply(LogEntry(entry.kind, entry.position, entry.message))
    return fold


def _landing(log: TaskLog) -> list[str]:
    """A canceled task ends soon, and as canceled unless its worker was just ending it."""
    wish = next((entry for entry in log.entries if isinstance(entry.message, TaskCancel)), None)
    if wish is None or log.end is None or log.end.position < wish.position:
        return []
    late = log.end.time - wish.time
    wrong = []
    if late > LANDING_SECONDS:
        wrong.append(f"it ended in {log.state} {late:.0f} s after its cancel")
    # Who claims an attempt after the first one has read the log, and the wish in it.
    later = [claim for claim in log.runs[1:] if claim.time - wish.time > LANDING_SECONDS / 2]
    return wrong + [f"attempt {attempt_of(claim)} began after its cancel" for claim in later]


def _kept(promise: Promise, log: TaskLog, final: TaskFinal) -> list[str]:
    state = final.data.status_update.status.state
    order = promise.order
    if promise.canceled and not log.of(CONTROL, TaskCancel):
        return ["its cancel was accepted, and is not in the log"]
    if state is TaskState.CANCELED:
        return [] if log.of(CONTROL, TaskCancel) else ["it was canceled, and nobody asked for it"]
    if order.kind in ENDLESS:
        return [f"it ended in {state.value}, and not by its cancel"]
    if order.kind == "hopeless":
        return [] if state is TaskState.FAILED else [f"it ended in {state.value}, not in failure"]
    if state is TaskState.FAILED:
        code = final.data.error.code if final.data.error else ""
        return [] if code in TORN else [f"it failed with {code}"]
    if state is not TaskState.COMPLETED:
        return [f"it ended in {state.value}"]
    expected = order.expected if order.kind != "steps" else _of_steps(log)
    text = _output(log)
    if text != expected:
        return [f"its output is {text[:60]!r}, not {expected!r:.60}"]
    if order.kind == "stream" and _streamed(log) != expected:
        return ["a later attempt streamed again what the log had"]
    return []


def _streamed(log: TaskLog) -> str:
    """All text that was ever streamed; an entry counts once, also when it was stored twice."""
    pieces = {
        (update.data.attempt, update.data.sequence): update.data.artifact_update.artifact.parts
        for update in log.of("update", TaskArtifact)
    }
    return "".join(str(part.text) for parts in pieces.values() for part in parts)


def _of_steps(log: TaskLog) -> str:
    """What a task gives that puts the results of its steps one behind the other."""
    results = {
        step.data.name: msgspec.json.decode(step.data.output) for step in log.of("step", TaskStep)
    }
    return "".join(results[f"part {number}"] for number in range(len(results)))


def _output(log: TaskLog) -> str:
    parts = _folded(log).task.parts_of("output")
    return "".join(part.text for part in parts if isinstance(part.text, str))


def _digest(logs: Mapping[str, TaskLog]) -> str:
    history = hashlib.sha256()
    for task_id in sorted(logs):
        history.update(f"{task_id} {logs[task_id].state} {len(logs[task_id].runs)}\n".encode())
    return history.hexdigest()
