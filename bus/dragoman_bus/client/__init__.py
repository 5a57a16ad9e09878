"""The caller's side of the bus: connect, discover, submit, stream, cancel."""

from __future__ import annotations

from dragoman_bus.client.bus import Bus, connect
from dragoman_bus.client.dead_letters import DeadLetter, DeadLetters
from dragoman_bus.client.durable import DurableClient
from dragoman_bus.client.durable_task import DurableTask
from dragoman_bus.client.result import Result
from dragoman_bus.client.scatter import Scatter, ScatterOutcome
from dragoman_bus.client.submission import Submission
from dragoman_bus.client.task import TaskHandle
from dragoman_bus.client.task_list import TaskSummary

__all__ = [
    "Bus",
    "DeadLetter",
    "DeadLetters",
    "DurableClient",
    "DurableTask",
    "Result",
    "Scatter",
    "ScatterOutcome",
    "Submission",
    "TaskHandle",
    "TaskSummary",
    "connect",
]
