"""Where output goes: answers to standard output, everything about them to standard error.

With ``--json`` standard output carries JSON objects only, one per line, each with its ``event``
where it is a stream. Colours follow ``NO_COLOR`` and the terminal (rich does both).
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "error_console", "printable", "write_json", "write_text"]

_HARMLESS_CONTROLS = {9, 10}
_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(32), *range(127, 160))
    if code not in _HARMLESS_CONTROLS
}


@functools.cache
def console() -> Console:
    """Standard output for people."""
    return _make_console(sys.stdout)


@functools.cache
def error_console() -> Console:
    """Standard error for people."""
    return _make_console(sys.stderr)


def _make_console(stream: TextIO) -> Console:
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            # rich would leave with exit code 1; application.py knows what it means.
            raise BrokenPipeError

    is_error = stream is sys.stderr
    return Quiet(stderr=is_error, highlight=False, width=_width(stream))


def _width(stream: TextIO) -> int | None:
    """The terminal decides; lines written to a file are not cut to the width of none."""
    return None if stream.isatty() or "COLUMNS" in os.environ else 160


def printable(text: str) -> str:
    """``text`` without control characters, so that what an agent sends cannot steer a terminal."""
    return text.translate(_CONTROLS)


def write_text(text: str) -> None:
    """Write text to standard output at once; made printable when a terminal shows it."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """Write one line with one JSON document; msgspec structs are written as on the wire."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()
