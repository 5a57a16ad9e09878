"""The port for stored messages: streams that arbitrate writes, and queues that are pulled.

What durable delivery needs from JetStream, and no more: an append that is stored only when nothing
else was (compare-and-set on a subject or a pattern), reads by position without a consumer, and
pulled queues with acknowledgement. Spec: spec/durable.md.

A *position* is the sequence the stream gave a message: 1, 2, 3, … over all subjects of a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dragoman_bus.transports.port import Headers

__all__ = [
    "Expectation",
    "Page",
    "Pulled",
    "PulledHandler",
    "Puller",
    "QueueSettings",
    "QueueState",
    "Record",
    "Stored",
    "StreamSettings",
    "StreamState",
    "Streams",
]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Store only when ``position`` is the last one of the subjects that match ``pattern``.

    0 means that no message matches. The pattern need not match the record's own subject.
    """

    pattern: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One message to store.

    Attributes:
        subject: A subject of the stream.
        data: The body.
        expect: The compare-and-set; ``None`` stores in any case.
        identity: A record with an identity that was stored within the stream's duplicate window is
            not stored again; its append succeeds with ``duplicate``.
        ttl: Seconds until the message disappears, rounded up to a whole second.
        deliver_at: Unix seconds; in a stream with ``schedules`` the body is published at that time
            (within a second) on ``deliver_to``. One schedule per subject: the last one counts.
        deliver_to: A subject of the same stream.
    """

    subject: str
    data: bytes
    expect: Expectation | None = None
    identity: str = ""
    ttl: float | None = None
    deliver_at: float | None = None
    deliver_to: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored message; ``time`` is when it was stored, in Unix seconds."""

    subject: str
    data: bytes
    position: int
    time: float


@dataclass(frozen=True, slots=True)
class Page:
    """Messages in order of position, and whether more follow the last."""

    messages: list[Stored]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """How ``Streams.ensure_stream`` makes a stream; an existing one is brought to it.

    Attributes:
        name: Letters, digits, ``_`` and ``-``.
        subjects: Patterns whose messages it stores.
        work_queue: A message disappears when a queue acknowledges it.
        replicas: Copies in a cluster (1, 3 or 5).
        in_memory: Lost when the server restarts.
        maximum_age: Seconds; 0 keeps messages for ever.
        maximum_bytes: Bound of the whole stream; -1 is unlimited.
        maximum_per_subject: Messages per subject; -1 is unlimited.
        refuse_new: A full stream refuses (``StreamFull``) instead of dropping the oldest. Not
            possible together with ``schedules``.
        schedules: Allows ``deliver_at``.
        batches: Allows ``append`` of several records at once.
        duplicate_window: Seconds during which an ``identity`` is remembered.
        republish: ``(pattern, destination)``: what was stored is published again there, with the
            header ``Nats-Sequence`` (its position) and ``Nats-Last-Sequence`` (the position of the
            message before it on its subject, 0 for none).
    """

    name: str
    subjects: tuple[str, ...]
    work_queue: bool = False
    replicas: int = 1
    in_memory: bool = False
    maximum_age: float = 0
    maximum_bytes: int = -1
    maximum_per_subject: int = -1
    refuse_new: bool = False
    schedules: bool = False
    batches: bool = False
    duplicate_window: float = 120
    republish: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """A durable pull consumer with explicit acknowledgement.

    Attributes:
        name: Its name in the stream.
        pattern: The subjects it delivers.
        ack_wait: Seconds after which an unacknowledged message is delivered again.
        maximum_deliveries: Deliveries of one message at most; then an advisory tells.
        maximum_pending: Delivered and unacknowledged messages at most, over all pullers.
    """

    name: str
    pattern: str
    ack_wait: float = 30.0
    maximum_deliveries: int = -1
    maximum_pending: int = 65536


@dataclass(frozen=True, slots=True)
class QueueState:
    """How full a queue is: messages never delivered, and delivered but unacknowledged ones."""

    waiting: int
    unacknowledged: int


@dataclass(frozen=True, slots=True)
class StreamState:
    """How full a stream is; ``bytes`` against ``maximum_bytes`` (-1: unlimited).

    ``maximum_age`` is in seconds; 0 keeps messages for ever.
    """

    messages: int
    bytes: int
    first_position: int
    last_position: int
    maximum_bytes: int
    maximum_age: float = 0.0
    subjects: Mapping[str, int] = field(default_factory=dict)


class Pulled(Protocol):
    """One delivered message of a queue. Exactly one of the first three settles it."""

    subject: str
    data: bytes
    headers: Headers
    position: int
    delivery: int
    """1 for the first delivery, counted by the server."""
    waiting: int
    """How many messages wait behind it, as of its delivery."""

    async def acknowledge(self) -> None:
        """Done. Not waited for: when it is lost, the message comes again."""

    async def reject(self, *, delay: float = 0.0) -> None:
        """Deliver it again, to anybody, after ``delay`` seconds."""

    async def terminate(self, reason: str) -> None:
        """Never deliver it again; an advisory tells ``reason``."""

    async def progress(self) -> None:
        """Still at work: the ack wait begins anew."""


PulledHandler = Callable[[Pulled], None]
"""Called on the event loop for each message: synchronous and quick, as ``Handler``."""


class Puller(Protocol):
    """Pulls one queue into a handler."""

    @property
    def queue(self) -> str:
        """The name of the queue."""

    def want(self, number: int) -> None:
        """Be ready for ``number`` more messages in all, until it is called again.

        Cheap where it changes nothing, since it is called whenever a slot is taken or freed. The
        queue is asked again when less than half of them are still to come.

        Less than before asks for nothing more; what was asked for may still come until the open
        requests expire, and the handler rejects what it cannot use. Requests survive reconnections
        and restarts of the server: they are made again. While the queue does not exist they are
        repeated until it does.
        """

    async def close(self) -> None:
        """Ask for nothing more; messages under way are rejected."""


class Streams(Protocol):
    """Stored messages of one account. Methods raise ``BusUnavailable`` or ``RequestTimeout``."""

    @property
    def max_payload(self) -> int:
        """Bytes of the largest record that the server takes, its headers included."""

    async def ensure_stream(self, settings: StreamSettings) -> None:
        """Create the stream, or bring an existing one to these settings.

        Raises:
            BusUnavailable: ``NOT_CONFIGURED`` when the server lacks JetStream or a feature.
        """

    async def ensure_queue(self, stream: str, settings: QueueSettings) -> None:
        """Create the queue, or bring an existing one to these settings."""

    async def delete_queue(self, stream: str, name: str) -> None:
        """Delete a queue; one that is absent is left so."""

    async def queues(self, stream: str) -> list[str]:
        """The names of the queues of a stream."""

    async def queue_state(self, stream: str, name: str) -> QueueState | None:
        """How full the queue is; ``None`` when it does not exist."""

    async def stream_state(self, stream: str, *, subjects: str = "") -> StreamState | None:
        """How full the stream is, with counts for the ``subjects`` that match."""

    async def append(self, stream: str, *records: Record) -> int:
        """Store all records or none; the position of the last one.

        Raises:
            RevisionConflict: an expectation does not hold; nothing was stored.
            StreamFull: the stream, or a subject of it, is full; nothing was stored.
            PayloadTooLarge: a record is larger than the server accepts.
            BusUnavailable: ``NOT_CONFIGURED`` when no stream takes the subject.
        """

    async def last(self, stream: str, *patterns: str) -> list[Stored]:
        """The last message of each subject that matches any pattern, in order of position."""

    async def read(
        self,
        stream: str,
        pattern: str,
        *,
        after: int = 0,
        since: float | None = None,
        limit: int = 1000,
    ) -> Page:
        """Messages whose subject matches, oldest first.

        Args:
            stream: Its name.
            pattern: Of subjects.
            after: Only above this position.
            since: In place of ``after``: stored at this time (Unix seconds) or later.
            limit: How many at most.
        """

    async def delete(self, stream: str, position: int) -> None:
        """Delete one message; one that is absent is left so."""

    async def purge(self, stream: str, pattern: str, *, below: int | None = None) -> int:
        """Delete what matches, only below position ``below`` when given; how many."""

    async def puller(
        self, stream: str, queue: str, handler: PulledHandler, *, expires: float = 5.0
    ) -> Puller:
        """Pull ``queue``; nothing is pulled before ``want``."""
