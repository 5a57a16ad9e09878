"""How a failure is told: one sentence, what to do about it, and an exit code. No traceback."""

from __future__ import annotations

import traceback
from typing import Any

import click

from dragoman_bus.protocol.errors import DragomanError
from dragoman_gateways.cli.accounts import print_account
from dragoman_gateways.cli.exit_codes import ExitCode, exit_code_of
from dragoman_gateways.cli.output import error_console, printable, write_json
from dragoman_gateways.cli.settings import Settings

__all__ = ["error_document", "report_failure", "report_usage", "sentence"]

REPORT = "This is a defect in dragoman: run it again with --debug and report what it shows."


def report_failure(error: BaseException, settings: Settings) -> ExitCode:
    """Tell people (standard error) or a program (standard output); returns the exit code."""
    code = exit_code_of(error)
    if settings.debug:
        error_console().print(
            "".join(traceback.format_exception(error)), style="dim", markup=False, end=""
        )
    if settings.json:
        _write_error(code, error_document(error))
    else:
        told = f"[bold red]dragoman:[/] {_escaped(sentence(error))}"
        # In a file or a pipe it stays one line, which can be searched.
        error_console().print(told, soft_wrap=not error_console().is_terminal)
        print_account(getattr(error, "receipt", None))
        action = _action(error)
        if action:
            error_console().print(f"  {_escaped(action)}", style="dim")
    return code


def report_usage(error: click.ClickException) -> ExitCode:
    """Tell a program what is wrong with its command line; returns the exit code."""
    context = getattr(error, "ctx", None)
    command = "dragoman" if context is None else context.command_path
    _write_error(
        ExitCode.USAGE,
        {
            "code": "USAGE",
            "message": _as_sentence(error.format_message()),
            "retryable": False,
            "sideEffects": "none",
            "action": f"`{command} --help` explains the command.",
        },
    )
    return ExitCode.USAGE


def _write_error(code: ExitCode, document: dict[str, Any]) -> None:
    write_json({"event": "error", "exitCode": int(code), "error": document})


def error_document(error: BaseException) -> dict[str, Any]:
    """A failure for programs; the members of an ``error`` message, and ``action``."""
    if not isinstance(error, DragomanError):
        return {"code": "INTERNAL", "message": sentence(error), "retryable": False}
    document: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "sideEffects": error.side_effects,
    }
    optional = {
        "retryAfterSeconds": error.retry_after,
        "taskId": error.task_id,
        "action": error.action,
        "details": dict(error.details),
        "receipt": getattr(error, "receipt", None),
        "usage": getattr(error, "task_usage", None),
    }
    return document | {name: value for name, value in optional.items() if value}


def sentence(error: BaseException) -> str:
    """What happened, as one sentence with its full stop."""
    if isinstance(error, DragomanError):
        text = error.message
    elif isinstance(error, KeyboardInterrupt):
        text = "interrupted"
    else:
        text = f"{type(error).__name__}: {error}"
    return _as_sentence(text)


def _as_sentence(text: str) -> str:
    text = printable(text).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _action(error: BaseException) -> str:
    if isinstance(error, DragomanError):
        wait = "" if error.retry_after is None else f" Retry after {error.retry_after:g} s."
        return f"{error.advice}{wait} ({error.code})".strip()
    return "" if isinstance(error, KeyboardInterrupt) else REPORT


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
