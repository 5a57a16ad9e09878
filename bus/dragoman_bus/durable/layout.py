"""The streams and queues of durable delivery: their names, their limits, and how they are made.

Spec: spec/durable.md, streams. Only whoever runs the bus makes them (DUR-3).
"""

from __future__ import annotations

import msgspec

from dragoman_bus.artifacts.store import artifact_stream
from dragoman_bus.protocol.subjects import PREFIX, TASK_CLASSES, check_token, queue_subject
from dragoman_bus.transports.streams import QueueSettings, Streams, StreamSettings

__all__ = [
    "ADVISORY_STREAM",
    "LOG_STREAM",
    "QUEUE_STREAM",
    "TIMER_STREAM",
    "DurableSettings",
    "agent_queue",
    "agent_queue_settings",
    "make_streams",
    "skill_queue",
    "skill_queue_settings",
    "stream_settings",
]

LOG_STREAM = "DRAGOMAN_LOG"
QUEUE_STREAM = "DRAGOMAN_QUEUE"
TIMER_STREAM = "DRAGOMAN_TIMER"
ADVISORY_STREAM = "DRAGOMAN_ADVISORY"

_DAY = 86400.0
_GIBIBYTE = 1024**3


class DurableSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of durable delivery on one bus.

    The server sets bytes aside when it makes the streams, and refuses to make them when its disk
    (or memory) has fewer.

    Attributes:
        replicas: Copies of every stream; 3 in a cluster of three nodes.
        in_memory: Nothing is kept over a restart of the server; for tests.
        log_age: Seconds a task's log is kept; no task lives longer.
        log_bytes: Bound of all logs together; above 80 % of it the oldest logs of ended tasks go.
        queue_tasks: Tasks that may wait or be worked on, for each skill and class.
        queue_bytes: Bound of all queues together.
        artifact_bytes: Bound of all large artifacts together; each lives as long as a log.
        ack_wait: Seconds after which the task of a dead worker is given to another.
        maximum_deliveries: Deliveries of one queue message; a backstop, attempts end before. A
            message also counts as delivered when a worker that got it had no free slot any more.
    """

    replicas: int = 1
    in_memory: bool = False
    log_age: float = 7 * _DAY
    log_bytes: int = _GIBIBYTE
    queue_tasks: int = 100_000
    queue_bytes: int = _GIBIBYTE // 4
    artifact_bytes: int = _GIBIBYTE
    ack_wait: float = 30.0
    maximum_deliveries: int = 1000


def stream_settings(settings: DurableSettings) -> list[StreamSettings]:
    """The four streams of durable delivery, and the bucket of large artifacts."""
    advisories = "$JS.EVENT.ADVISORY.CONSUMER"
    return [
        artifact_stream(
            replicas=settings.replicas,
            in_memory=settings.in_memory,
            maximum_age=settings.log_age,
            maximum_bytes=settings.artifact_bytes,
        ),
        StreamSettings(
            name=LOG_STREAM,
            subjects=(f"{PREFIX}.evt.>", f"{PREFIX}.dlq.>", f"{PREFIX}.turn.>"),
            replicas=settings.replicas,
            in_memory=settings.in_memory,
            maximum_age=settings.log_age,
            maximum_bytes=settings.log_bytes,
            refuse_new=True,
            batches=True,
            republish=(f"{PREFIX}.evt.>", f"{PREFIX}.live.>"),
        ),
        StreamSettings(
            name=QUEUE_STREAM,
            subjects=(f"{PREFIX}.task.>",),
            work_queue=True,
            replicas=settings.replicas,
            in_memory=settings.in_memory,
            maximum_bytes=settings.queue_bytes,
            maximum_per_subject=settings.queue_tasks,
            refuse_new=True,
        ),
        StreamSettings(
            name=TIMER_STREAM,
            subjects=(f"{PREFIX}.timer.>", f"{PREFIX}.due.>"),
            replicas=settings.replicas,
            in_memory=settings.in_memory,
            maximum_age=settings.log_age + _DAY,
            schedules=True,
        ),
        StreamSettings(
            name=ADVISORY_STREAM,
            subjects=(
                f"{advisories}.MAX_DELIVERIES.{QUEUE_STREAM}.>",
                f"{advisories}.MSG_TERMINATED.{QUEUE_STREAM}.>",
            ),
            replicas=settings.replicas,
            in_memory=settings.in_memory,
            maximum_age=_DAY,
        ),
    ]


async def make_streams(streams: Streams, settings: DurableSettings) -> None:
    """Make the streams, or bring existing ones to ``settings``.

    Raises:
        BusUnavailable: the server has no JetStream, or is too old.
    """
    for stream in stream_settings(settings):
        await streams.ensure_stream(stream)


def skill_queue(skill: str, class_: str) -> str:
    """The name of the queue of a skill and class."""
    return f"skill-{check_token(skill, 'skill name')}-{class_}"


def agent_queue(agent: str) -> str:
    """The name of the queue of tasks addressed to one agent."""
    return f"agent-{check_token(agent, 'agent name')}"


def skill_queue_settings(skill: str, settings: DurableSettings) -> list[QueueSettings]:
    """The queues of a skill, one for each class."""
    return [
        _queue(skill_queue(skill, class_), queue_subject(skill, class_), settings)
        for class_ in TASK_CLASSES
    ]


def agent_queue_settings(agent: str, settings: DurableSettings) -> QueueSettings:
    """The queue of an agent, for all its skills and classes."""
    pattern = f"{PREFIX}.task.{check_token(agent, 'agent name')}.*.*"
    return _queue(agent_queue(agent), pattern, settings)


def _queue(name: str, pattern: str, settings: DurableSettings) -> QueueSettings:
    return QueueSettings(
        name=name,
        pattern=pattern,
        ack_wait=settings.ack_wait,
        maximum_deliveries=settings.maximum_deliveries,
    )
