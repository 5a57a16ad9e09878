"""All that the log says of one durable task, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, UnsetType
from rich.text import Text

from dragoman_bus.client.result import result_of
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.contracts import text_of
from dragoman_bus.protocol.durable import AttemptReport
from dragoman_bus.protocol.payloads import ErrorObject, SubmitData
from dragoman_bus.protocol.tasklog import LogFold
from dragoman_bus.protocol.timestamps import format_timestamp
from dragoman_gateways.cli.accounts import account_of, account_summary, member_lines
from dragoman_gateways.cli.output import console, printable
from dragoman_gateways.cli.presenting import parts_text, state_style, state_word, value_text
from dragoman_gateways.cli.words import clock_time, model_name, source_name, usage_words, who

__all__ = [
    "attempt_lines",
    "error_words",
    "input_text",
    "print_fact",
    "print_facts",
    "print_task",
    "task_document",
    "whom",
]

NAME_WIDTH = 10


def task_document(log: LogFold) -> dict[str, Any]:
    """A task for programs; ``position`` is where `task watch --after` goes on."""
    data, task, submission = log.data, log.task, log.submission
    document: dict[str, Any] = {
        "taskId": log.task_id,
        "state": task.state,
        "skill": data.skill,
        "agent": data.agent,
        "class": "interactive" if data.class_ is UNSET else data.class_,
        "contextId": task.context_id,
        "submittedAt": UNSET if submission is None else submission.time,
        "submittedBy": UNSET if submission is None else submission.source,
        "deadline": UNSET if log.deadline is None else format_timestamp(log.deadline),
        "position": log.position,
        "attempts": log.attempts,
        "maximumAttempts": log.maximum_attempts,
        "steps": list(log.steps),
        "children": log.children,
        "cancel": log.cancel or UNSET,
        "redriveOf": data.redrive_of,
        "usage": task.usage,
        "receipt": task.receipt,
        "error": task.error,
        "task": task.task(),
    }
    if task.state is TaskState.COMPLETED:
        document["value"] = result_of(task).value
    return {name: value for name, value in document.items() if value is not UNSET}


def print_task(log: LogFold) -> None:
    """A task for people."""
    data, task = log.data, log.task
    state = state_word(task.state)
    if log.cancel is not None and not log.ended:
        state += ", to be canceled"
    print_fact("task", log.task_id)
    print_fact("state", state, style=state_style(task.state))
    if log.waits_for_reply and not isinstance(task.status.message, UnsetType):
        print_fact("asks", text_of(task.status.message.parts) or "")
    print_fact("skill", whom(data))
    if log.submission is not None:
        by = source_name(log.submission.source)
        print_fact("submitted", f"{clock_time(log.submission.time)} by {by}")
    if log.deadline is not None:
        print_fact("deadline", clock_time(format_timestamp(log.deadline)))
    if task.context_id != log.task_id:
        print_fact("context", task.context_id)
    if not isinstance(data.redrive_of, UnsetType):
        print_fact("redrives", data.redrive_of)
    print_facts("attempts", attempt_lines(log.attempts))
    print_facts("steps", list(log.steps))
    print_facts("children", log.children)
    _print_ending(log)


def _print_ending(log: LogFold) -> None:
    task = log.task
    usage = None if isinstance(task.usage, UnsetType) else task.usage
    receipt = None if isinstance(task.receipt, UnsetType) else task.receipt
    if receipt is not None:
        print_fact("done by", f"{who(receipt)} · {model_name(receipt.model)}")
        account = account_of(receipt)
        if account is not None:
            print_fact("ensemble", account_summary(account))
            for name, words in member_lines(account):
                print_fact("", f"{name}  {words}")
    if usage_words(usage):
        print_fact("used", usage_words(usage))
    if not isinstance(task.error, UnsetType):
        print_fact("error", error_words(task.error), style="red")
    if task.state is TaskState.FAILED:
        print_fact("", f"`dragoman dlq show {log.task_id}` tells all", style="dim")
    if task.state is TaskState.COMPLETED:
        result = result_of(task)
        if result.output is not None:
            print_facts("output", value_text(result.value).splitlines())


def attempt_lines(attempts: Sequence[AttemptReport]) -> list[str]:
    """Number, worker, times and error of each attempt."""
    return [_attempt_words(attempt) for attempt in attempts]


def _attempt_words(attempt: AttemptReport) -> str:
    begun = clock_time(attempt.started_at)
    ended = "…" if isinstance(attempt.ended_at, UnsetType) else clock_time(attempt.ended_at)[11:]
    words = f"{attempt.attempt}  {source_name(attempt.source)}  {begun} to {ended}"
    if isinstance(attempt.error, UnsetType):
        return words
    return f"{words}  {error_words(attempt.error)}"


def error_words(error: ErrorObject) -> str:
    """Code and message."""
    return f"{error.code}: {error.message}"


def whom(data: SubmitData) -> str:
    """``agent/skill`` or the skill, and the class."""
    agent = "" if isinstance(data.agent, UnsetType) else f"{data.agent}/"
    class_ = "interactive" if isinstance(data.class_, UnsetType) else data.class_
    return f"{agent}{data.skill} ({class_})"


def input_text(data: SubmitData) -> str:
    """What the task was given, as text."""
    return parts_text(data.message.parts).rstrip("\n")


def print_facts(name: str, lines: Sequence[str]) -> None:
    """Several lines under one name; nothing for none."""
    for number, line in enumerate(lines):
        print_fact("" if number else name, line)


def print_fact(name: str, text: str, *, style: str = "") -> None:
    """One line, its name before it."""
    line = Text(f"{name:<{NAME_WIDTH}}", style="dim")
    line.append(printable(text), style=f"{style} not dim".strip() if style != "dim" else "dim")
    console().print(line, soft_wrap=True)
