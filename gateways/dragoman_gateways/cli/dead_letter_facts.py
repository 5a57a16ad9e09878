"""All that is kept of a failed durable task, for people and for programs."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType
from rich.table import Table
from rich.text import Text

from dragoman_bus.client import DeadLetter
from dragoman_bus.protocol.contracts import OUTPUT_ARTIFACT
from dragoman_gateways.cli.presenting import parts_text
from dragoman_gateways.cli.tables import cell, make_table
from dragoman_gateways.cli.task_facts import (
    attempt_lines,
    error_words,
    input_text,
    print_fact,
    print_facts,
    whom,
)
from dragoman_gateways.cli.words import clock_time, list_time, source_name

__all__ = ["letter_document", "letter_summary", "letters_table", "print_letter"]


def letters_table(letters: list[DeadLetter], *, settled: bool) -> Table:
    """Dead letters as people read them; with ``settled``, what became of each."""
    headings = ["TASK", "FAILED", "ATTEMPTS", "SKILL", "ERROR"]
    table = make_table([*headings, "SETTLED"] if settled else headings)
    for letter in letters:
        data = letter.data
        cells: list[Text | str] = [
            cell(data.task_id),
            cell(list_time(letter.failed_at), "dim"),
            str(len(data.attempts)),
            cell(data.submission.skill, "bold"),
            cell(error_words(data.error).partition("\n")[0], "red"),
        ]
        if settled:
            cells.append(cell(_settlement_words(letter), "dim"))
        table.add_row(*cells)
    return table


def _settlement_words(letter: DeadLetter) -> str:
    done = letter.settlement
    if done is None:
        return ""
    target = "" if isinstance(done.redriven_as, UnsetType) else f" as {done.redriven_as}"
    reason = "" if isinstance(done.reason, UnsetType) else f": {done.reason}"
    return f"{done.action}{target}{reason}"


def letter_summary(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter of a list, for programs."""
    data = letter.data
    document = {
        "taskId": data.task_id,
        "skill": data.submission.skill,
        "agent": data.submission.agent,
        "submittedAt": data.submitted_at,
        "failedAt": letter.failed_at,
        "attempts": len(data.attempts),
        "error": data.error,
        "position": letter.position,
        "settlement": letter.settlement or UNSET,
    }
    return {name: value for name, value in document.items() if value is not UNSET}


def letter_document(letter: DeadLetter) -> dict[str, Any]:
    """A whole dead letter for programs."""
    document: dict[str, Any] = {
        "deadLetter": letter.data,
        "failedAt": letter.failed_at,
        "position": letter.position,
    }
    if letter.settlement is not None:
        document["settlement"] = letter.settlement
    return document


def print_letter(letter: DeadLetter) -> None:
    """A whole dead letter for people."""
    data = letter.data
    print_fact("task", data.task_id)
    settled = _settlement_words(letter)
    print_fact(
        "settled", settled or "no: redrive it, or drop it", style="" if settled else "yellow"
    )
    print_fact("skill", whom(data.submission))
    submitted = f"{clock_time(data.submitted_at)} by {source_name(data.submitted_by)}"
    print_fact("submitted", submitted)
    print_fact("failed", clock_time(letter.failed_at))
    print_fact("error", error_words(data.error), style="red")
    print_facts("attempts", attempt_lines(data.attempts) or ["none: no worker had it"])
    print_facts("input", input_text(data.submission).splitlines())
    for artifact in data.artifacts or ():
        name = "partial" if artifact.artifact_id == OUTPUT_ARTIFACT else artifact.artifact_id
        print_facts(name, parts_text(artifact.parts).splitlines())
