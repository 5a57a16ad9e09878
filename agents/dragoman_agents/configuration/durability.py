"""The table ``[durable]``: the limits of durable delivery, for whoever makes its streams."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dragoman_bus.durable import DurableSettings

__all__ = ["DurableTable"]

_GIBIBYTE = 1024**3
_DAY = 86400

Bytes = Annotated[int, Meta(ge=1024**2)]
Seconds = Annotated[float, Meta(gt=0)]


class DurableTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``dragoman up`` and ``dragoman supervise`` make of durable delivery.

    Attributes:
        supervise: Whether ``dragoman up`` runs a supervisor; false when others do.
        replicas: Copies of everything in a cluster of NATS servers.
        max_age_seconds: How long a task's log is kept; no task may live longer.
        max_log_bytes: Bound of all logs together.
        max_queued_tasks: Tasks that wait or run, for each skill and class.
        max_queued_bytes: Bound of all queues together.
        max_artifact_bytes: Bound of all large artifacts together.
        ack_wait_seconds: How soon the task of a dead worker is given to another. Workers extend it
            once a second, so it is three seconds at least.
        cancel_grace_seconds: What a worker gets to end a canceled task itself.
    """

    supervise: bool = True
    replicas: int = 1
    max_age_seconds: Annotated[float, Meta(ge=60)] = 7 * _DAY
    max_log_bytes: Bytes = _GIBIBYTE
    max_queued_tasks: Annotated[int, Meta(ge=1)] = 100_000
    max_queued_bytes: Bytes = _GIBIBYTE // 4
    max_artifact_bytes: Bytes = _GIBIBYTE
    ack_wait_seconds: Annotated[float, Meta(ge=3, le=3600)] = 30.0
    cancel_grace_seconds: Seconds = 10.0

    def __post_init__(self) -> None:
        if self.replicas not in (1, 3, 5):
            raise ValueError("replicas is 1, or in a cluster of NATS servers 3 or 5")

    def settings(self) -> DurableSettings:
        """The same for the supervisor."""
        return DurableSettings(
            replicas=self.replicas,
            log_age=self.max_age_seconds,
            log_bytes=self.max_log_bytes,
            queue_tasks=self.max_queued_tasks,
            queue_bytes=self.max_queued_bytes,
            artifact_bytes=self.max_artifact_bytes,
            ack_wait=self.ack_wait_seconds,
        )
