"""Makes streams and queues on JetStream, and says how full they are."""

from __future__ import annotations

from typing import Any

from dragoman_bus.protocol.errors import BusUnavailable
from dragoman_bus.transports.nats.api import (
    CONSUMER_NOT_FOUND,
    MESSAGE_NOT_FOUND,
    NAME_IN_USE,
    NANOSECONDS,
    NO_ROOM,
    STREAM_NOT_FOUND,
    Connection,
    call,
    error_of,
)
from dragoman_bus.transports.streams import (
    QueueSettings,
    QueueState,
    StreamSettings,
    StreamState,
)

__all__ = ["Administration"]

_MAXIMUM_WAITING_PULLS = 16384


class Administration:
    """The part of ``Streams`` that needs rights agents and callers do not have."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def ensure_stream(self, settings: StreamSettings) -> None:
        """See ``Streams.ensure_stream``."""
        wanted = _stream(settings)
        answer = await call(self.connection, f"STREAM.INFO.{settings.name}")
        if answer.error is not None and answer.error.err_code != STREAM_NOT_FOUND:
            raise error_of(f"cannot open the stream {settings.name}", answer.error)
        if answer.error is not None:
            answer = await call(self.connection, f"STREAM.CREATE.{settings.name}", wanted)
            if answer.error is not None and answer.error.err_code == NAME_IN_USE:
                answer = await call(self.connection, f"STREAM.INFO.{settings.name}")
            if answer.error is not None and answer.error.err_code in NO_ROOM:
                raise BusUnavailable(
                    f"the NATS server has no room for the stream {settings.name} of "
                    f"{settings.maximum_bytes} bytes ({answer.error.description}); set a lower "
                    "limit, or free some of its disk",
                    code="NOT_CONFIGURED",
                )
            if answer.error is not None:
                raise error_of(f"cannot make the stream {settings.name}", answer.error)
        config = answer.config or {}
        if any(config.get(name, _absent(value)) != value for name, value in wanted.items()):
            changed = config | wanted
            answer = await call(self.connection, f"STREAM.UPDATE.{settings.name}", changed)
            if answer.error is not None:
                raise error_of(f"cannot change the stream {settings.name}", answer.error)
        self._check(settings, answer.config or {})

    def _check(self, settings: StreamSettings, config: dict[str, Any]) -> None:
        needed = {
            "allow_msg_ttl": True,
            "allow_atomic": settings.batches,
            "allow_msg_schedules": settings.schedules,
        }
        missing = [name for name, need in needed.items() if need and not config.get(name)]
        if missing:
            raise BusUnavailable(
                f"the NATS server does not know {', '.join(missing)}; durable delivery needs "
                "nats-server 2.12 or later",
                code="NOT_CONFIGURED",
            )

    async def ensure_queue(self, stream: str, settings: QueueSettings) -> None:
        """See ``Streams.ensure_queue``."""
        name = f"CONSUMER.CREATE.{stream}.{settings.name}.{settings.pattern}"
        config = {
            "durable_name": settings.name,
            "name": settings.name,
            "filter_subject": settings.pattern,
            "ack_policy": "explicit",
            "ack_wait": int(settings.ack_wait * NANOSECONDS),
            "max_deliver": settings.maximum_deliveries,
            "max_ack_pending": settings.maximum_pending,
            "max_waiting": _MAXIMUM_WAITING_PULLS,
            "deliver_policy": "all",
            "replay_policy": "instant",
        }
        answer = await call(self.connection, name, {"stream_name": stream, "config": config})
        if answer.error is not None:
            raise error_of(f"cannot make the queue {settings.name}", answer.error)

    async def delete_queue(self, stream: str, name: str) -> None:
        """See ``Streams.delete_queue``."""
        answer = await call(self.connection, f"CONSUMER.DELETE.{stream}.{name}")
        if answer.error is not None and answer.error.err_code != CONSUMER_NOT_FOUND:
            raise error_of(f"cannot delete the queue {name}", answer.error)

    async def queues(self, stream: str) -> list[str]:
        """See ``Streams.queues``."""
        found: list[str] = []
        while True:
            answer = await call(self.connection, f"CONSUMER.NAMES.{stream}", {"offset": len(found)})
            if answer.error is not None:
                raise error_of(f"cannot list the queues of {stream}", answer.error)
            found += answer.consumers or []
            if not answer.consumers or len(found) >= answer.total:
                return found

    async def queue_state(self, stream: str, name: str) -> QueueState | None:
        """See ``Streams.queue_state``."""
        answer = await call(self.connection, f"CONSUMER.INFO.{stream}.{name}")
        if answer.error is not None:
            if answer.error.err_code in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
                return None
            raise error_of(f"cannot see the queue {name}", answer.error)
        return QueueState(answer.num_pending, answer.num_ack_pending)

    async def stream_state(self, stream: str, *, subjects: str = "") -> StreamState | None:
        """See ``Streams.stream_state``."""
        query = {"subjects_filter": subjects} if subjects else None
        answer = await call(self.connection, f"STREAM.INFO.{stream}", query)
        if answer.error is not None:
            if answer.error.err_code == STREAM_NOT_FOUND:
                return None
            raise error_of(f"cannot see the stream {stream}", answer.error)
        state, config = answer.state or {}, answer.config or {}
        return StreamState(
            messages=state.get("messages", 0),
            bytes=state.get("bytes", 0),
            first_position=state.get("first_seq", 0),
            last_position=state.get("last_seq", 0),
            maximum_bytes=config.get("max_bytes", -1),
            maximum_age=config.get("max_age", 0) / 1e9,
            subjects=state.get("subjects") or {},
        )

    async def purge(self, stream: str, pattern: str, *, below: int | None = None) -> int:
        """See ``Streams.purge``."""
        query: dict[str, object] = {"filter": pattern}
        if below is not None:
            query["seq"] = below
        answer = await call(self.connection, f"STREAM.PURGE.{stream}", query)
        if answer.error is not None:
            raise error_of(f"cannot purge {pattern}", answer.error)
        return answer.purged

    async def delete(self, stream: str, position: int) -> None:
        """See ``Streams.delete``."""
        query = {"seq": position, "no_erase": True}
        answer = await call(self.connection, f"STREAM.MSG.DELETE.{stream}", query)
        if answer.error is not None and answer.error.err_code != MESSAGE_NOT_FOUND:
            raise error_of(f"cannot delete message {position} of {stream}", answer.error)


def _stream(settings: StreamSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": settings.name,
        "subjects": list(settings.subjects),
        "retention": "workqueue" if settings.work_queue else "limits",
        "discard": "new" if settings.refuse_new else "old",
        "storage": "memory" if settings.in_memory else "file",
        "num_replicas": settings.replicas,
        "max_age": int(settings.maximum_age * NANOSECONDS),
        "max_bytes": settings.maximum_bytes,
        "max_msgs_per_subject": settings.maximum_per_subject,
        "duplicate_window": int(settings.duplicate_window * NANOSECONDS),
        "allow_direct": True,
        "allow_msg_ttl": True,
    }
    if settings.refuse_new and settings.maximum_per_subject > 0:
        config["discard_new_per_subject"] = True
    if settings.batches:
        config["allow_atomic"] = True
    if settings.schedules:
        config["allow_msg_schedules"] = True
    if settings.republish is not None:
        source, destination = settings.republish
        config["republish"] = {"src": source, "dest": destination}
    return config


def _absent(value: Any) -> Any:
    """What a member means that the server leaves out of its answer."""
    return False if isinstance(value, bool) else 0 if isinstance(value, int) else None
