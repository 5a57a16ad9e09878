"""Fresh identifiers: unique across hosts, sortable by time, and valid as tokens of a subject."""

from __future__ import annotations

import itertools
import os
import time

__all__ = ["new_identifier"]

# Random bytes cost a system call each; one per process and a counter are as unique.
_counter = itertools.count(int.from_bytes(os.urandom(4), "big"))
_process = os.urandom(6).hex()


def _renew_process_part() -> None:
    global _process
    _process = os.urandom(6).hex()


os.register_at_fork(after_in_child=_renew_process_part)


def new_identifier() -> str:
    """32 lower-case hex digits: 11 of milliseconds, 12 of this process, 9 of a counter."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{milliseconds:011x}{_process}{next(_counter) & 0xFFFFFFFFF:09x}"
