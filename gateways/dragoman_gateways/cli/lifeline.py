"""A child process ends in order when its parent is gone, however the parent ended.

The parent keeps the writing end of the child's standard input open and never writes. When the
parent ends, even by ``kill -9``, the child reads the end of its input and sends itself SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading

__all__ = ["LIFELINE_VARIABLE", "hold_lifeline"]

LIFELINE_VARIABLE = "DRAGOMAN_LIFELINE"
"""Set to 1 in the environment of a process whose standard input is a lifeline."""


def hold_lifeline() -> None:
    """Watch the lifeline, when this process has one."""
    if os.environ.pop(LIFELINE_VARIABLE, "") == "1":
        threading.Thread(target=_watch, daemon=True, name="dragoman lifeline").start()


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
