"""Finished tasks kept for a while, so that late questions about them have an answer.

Spec: spec/operations.md, get and resubmission. Bounded by number and age.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from dragoman_bus.service.job import Job

__all__ = ["Shelf"]


class Shelf:
    """The running tasks of an instance, and its recently finished ones."""

    def __init__(self, maximum_finished: int = 1024, maximum_age: float = 300.0) -> None:
        self.running: dict[str, Job] = {}
        self._finished: OrderedDict[str, Job] = OrderedDict()
        self._maximum = maximum_finished
        self._age = maximum_age

    def find(self, task_id: str) -> Job | None:
        """A running or recently finished task."""
        return self.running.get(task_id) or self._finished.get(task_id)

    def add(self, job: Job) -> None:
        """Keep an accepted task."""
        self.running[job.task_id] = job

    def forget(self, job: Job) -> None:
        """Drop a task that goes on elsewhere."""
        self.running.pop(job.task_id, None)

    def finish(self, job: Job) -> None:
        """Move an ended task to the finished ones, and forget the oldest beyond the bounds."""
        self.running.pop(job.task_id, None)
        job.ended_at = time.monotonic()
        self._finished[job.task_id] = job
        while len(self._finished) > self._maximum:
            self._finished.popitem(last=False)

    def sweep(self, now: float) -> None:
        """Forget finished tasks that are too old."""
        while self._finished:
            oldest = next(iter(self._finished.values()))
            if oldest.ended_at is None or now - oldest.ended_at < self._age:
                return
            self._finished.popitem(last=False)
