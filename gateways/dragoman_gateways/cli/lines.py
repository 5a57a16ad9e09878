"""Status lines of long-running commands: who, what; or the same as JSON lines."""

from __future__ import annotations

import time
from typing import Any

from rich.text import Text

from dragoman_gateways.cli.output import console, error_console, printable, write_json
from dragoman_gateways.cli.processes import ProcessEvent

__all__ = ["StatusLines"]


class StatusLines:
    """Writes one line per event: to standard output, and what children log to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def say(self, who: str, what: str, *, failed: bool = False, **members: Any) -> None:
        """One fact; ``members`` are for programs only."""
        if self._as_json:
            write_json({"event": "status", "who": who, "what": what, "failed": failed} | members)
        else:
            self._line(who, what, "red" if failed else "")

    def process(self, event: ProcessEvent) -> None:
        """What happened to a child process."""
        if self._as_json:
            write_json({"event": f"process.{event.kind}", "process": event})
            return
        if event.kind == "log":
            line = Text(f"{event.label}: ", style="dim").append(printable(event.text))
            error_console().print(line, soft_wrap=True)
            return
        text, style = _process_words(event)
        if text:
            self._line(event.label, text, style)

    def _line(self, who: str, what: str, style: str) -> None:
        line = Text(time.strftime("%H:%M:%S  "), style="dim")
        line.append(f"{printable(who):<15} ", style="bold not dim")
        line.append(printable(what), style=f"{style} not dim".strip())
        console().print(line, soft_wrap=True)


def _process_words(event: ProcessEvent) -> tuple[str, str]:
    match event.kind:
        case "started":
            return f"process {event.pid} started", ""
        case "ended" if event.exit_code == 0:
            return f"process {event.pid} ended", ""
        case "ended" if event.exit_code is not None and event.exit_code < 0:
            return f"process {event.pid} was killed by signal {-event.exit_code}", "red"
        case "ended":
            return f"process {event.pid} ended with exit code {event.exit_code}", "red"
        case "waiting":
            return f"starts again in {event.seconds:.1f} s", "yellow"
        case "gave-up":
            return "is not started again: correct what it says above, then start anew", "red"
        case _:
            # The registry tells when it is ready, for agents that run elsewhere too.
            return "", ""
