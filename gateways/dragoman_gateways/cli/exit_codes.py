"""Exit codes of ``dragoman``: one number per kind of ending, the same for every command.

They are documented in docs/cli.md and in ``dragoman --help``; both are checked against this file.
"""

from __future__ import annotations

import enum

__all__ = ["EXIT_CODE_HELP", "ExitCode", "exit_code_of"]


class ExitCode(enum.IntEnum):
    """How a command ended."""

    OK = 0
    TASK_FAILED = 1
    USAGE = 2
    BUS_UNAVAILABLE = 3
    NO_AGENT = 4
    INVALID = 5
    DEADLINE = 6
    NOT_FOUND = 7
    INTERNAL = 70
    INTERRUPTED = 130


EXIT_CODE_HELP: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.TASK_FAILED: "the task failed, was refused or was canceled",
    ExitCode.USAGE: "wrong usage, or something is not configured",
    ExitCode.BUS_UNAVAILABLE: "no NATS server answers, or it lacks JetStream",
    ExitCode.NO_AGENT: "no agent serves it, all are busy, the queue is full, or the agent was lost",
    ExitCode.INVALID: "an invalid document, message or input; a narrowed schema",
    ExitCode.DEADLINE: "the deadline passed",
    ExitCode.NOT_FOUND: "there is no such task, or no such dead letter",
    ExitCode.INTERNAL: "a defect in dragoman; --debug shows the traceback",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code that tells a script what kind of failure ``error`` is."""
    from dragoman_bus.protocol import errors

    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    kinds: list[tuple[type[BaseException], ExitCode]] = [
        (errors.NotConfigured, ExitCode.USAGE),
        (errors.NoResponders, ExitCode.NO_AGENT),
        (errors.AgentUnavailable, ExitCode.NO_AGENT),
        (errors.AgentLost, ExitCode.NO_AGENT),
        (errors.Overloaded, ExitCode.NO_AGENT),
        (errors.DeadlineExceeded, ExitCode.DEADLINE),
        (errors.RequestTimeout, ExitCode.DEADLINE),
        (errors.ProtocolError, ExitCode.INVALID),
        (errors.InvalidInput, ExitCode.INVALID),
        (errors.PayloadTooLarge, ExitCode.INVALID),
        (errors.TransportError, ExitCode.BUS_UNAVAILABLE),
    ]
    for kind, code in kinds:
        if isinstance(error, kind):
            return code
    if isinstance(error, errors.DragomanError):
        return _BY_ERROR_CODE.get(error.code, ExitCode.TASK_FAILED)
    return ExitCode.INTERNAL


# An agent reports some of these inside a failed or rejected task.
_BY_ERROR_CODE = {
    "DEADLINE_EXCEEDED": ExitCode.DEADLINE,
    "INVALID_INPUT": ExitCode.INVALID,
    "TASK_NOT_FOUND": ExitCode.NOT_FOUND,
    "UNKNOWN_SKILL": ExitCode.NO_AGENT,
    "OVERLOADED": ExitCode.NO_AGENT,
    "DRAINING": ExitCode.NO_AGENT,
    "AGENT_UNAVAILABLE": ExitCode.NO_AGENT,
    "AGENT_LOST": ExitCode.NO_AGENT,
}
