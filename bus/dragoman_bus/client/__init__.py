"""The caller's side of the bus: connect, discover, submit, stream, cancel."""

from __future__ import annotations

from dragoman_bus.client.bus import Bus, connect
from dragoman_bus.client.result import Result
from dragoman_bus.client.submission import Submission
from dragoman_bus.client.task import TaskHandle

__all__ = ["Bus", "Result", "Submission", "TaskHandle", "connect"]
