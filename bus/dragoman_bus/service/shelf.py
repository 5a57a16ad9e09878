"""Finished tasks kept for a while, so that late questions about them have an answer.

Spec: spec/operations.md, get and resubmission. Bounded by number and age. A short task is kept as
its request and its final message, two strings of bytes: to free the fifty objects of a job after
a thousand other tasks took 6 us of the 28 us that the agent's side of a task takes.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from dragoman_bus.service.job import Job

__all__ = ["Revive", "Shelf"]

Revive = Callable[[bytes, bytes], Job]
"""Makes a job again from its request and its final message."""

_Kept = Job | tuple[float, bytes, bytes]
"""A whole job, or when it ended, its request and its final message."""


class Shelf:
    """The running tasks of an instance, and its recently finished ones."""

    def __init__(
        self, revive: Revive, maximum_finished: int = 1024, maximum_age: float = 300.0
    ) -> None:
        self.running: dict[str, Job] = {}
        self._finished: OrderedDict[str, _Kept] = OrderedDict()
        self._revive = revive
        self._maximum = maximum_finished
        self._age = maximum_age

    def find(self, task_id: str) -> Job | None:
        """A running or recently finished task."""
        running = self.running.get(task_id)
        if running is not None:
            return running
        kept = self._finished.get(task_id)
        return self._revive(*kept[1:]) if isinstance(kept, tuple) else kept

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
        request, final = job.request, job.stream.whole_log
        if request is None or final is None:
            self._finished[job.task_id] = job
        else:
            self._finished[job.task_id] = (job.ended_at, request, final)
        while len(self._finished) > self._maximum:
            self._finished.popitem(last=False)

    def sweep(self, now: float) -> None:
        """Forget finished tasks that are too old."""
        while self._finished:
            oldest = next(iter(self._finished.values()))
            ended_at = oldest[0] if isinstance(oldest, tuple) else oldest.ended_at
            if ended_at is None or now - ended_at < self._age:
                return
            self._finished.popitem(last=False)
