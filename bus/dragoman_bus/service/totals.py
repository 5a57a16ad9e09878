"""What an instance has done since it started: the numbers of STATS."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from msgspec import UnsetType

from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.service.job import Job, Outcome

__all__ = ["Totals"]


class Totals:
    """Counters; read by STATS, written by the instance."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.refused = 0
        self.invalid = 0
        self.seconds = 0.0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost: Counter[str] = Counter()

    def count(self, job: Job, outcome: Outcome) -> None:
        """Count an ended task."""
        self.requests += 1
        self.errors += outcome.state is not TaskState.COMPLETED
        self.seconds += time.monotonic() - (job.started_at or job.accepted_at)
        usage = outcome.usage
        if usage is None:
            return
        self.input_tokens += 0 if isinstance(usage.input_tokens, UnsetType) else usage.input_tokens
        self.output_tokens += (
            0 if isinstance(usage.output_tokens, UnsetType) else usage.output_tokens
        )
        if not isinstance(usage.cost, UnsetType):
            self.cost[usage.cost.currency] += usage.cost.amount  # type: ignore[assignment]

    def as_statistics(self, data: dict[str, Any]) -> dict[str, Any]:
        """The numbers in the form that ``MicroResponder`` asks for; ``data`` is added to."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "processing_nanoseconds": int(self.seconds * 1e9),
            "data": data
            | {
                "refused": self.refused,
                "invalid": self.invalid,
                "inputTokens": self.input_tokens,
                "outputTokens": self.output_tokens,
                "cost": dict(self.cost),
            },
        }
