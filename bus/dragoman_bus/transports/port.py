"""The transport port: the few operations Dragoman needs from a message bus.

Everything right of ``transports`` (client, service, registry) uses only what stands here, so a
test can run on ``transports.memory`` and a deployment on ``transports.nats`` without a change.
Both pass one suite of contract tests. Spec: spec/nats-binding.md.

Delivery is at most once. While a transport is disconnected, ``publish`` is buffered up to a bound
and sent after the reconnect, so a receiver checks the deadline of what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dragoman_bus.transports.streams import Streams

__all__ = [
    "BucketSettings",
    "Change",
    "ChangeHandler",
    "Delivery",
    "Entry",
    "Handler",
    "Headers",
    "KeyValue",
    "Statistics",
    "Subscription",
    "Transport",
]

Headers = Mapping[str, str]


@dataclass(slots=True)
class Delivery:
    """One message as it arrived.

    Attributes:
        subject: The subject it was published on.
        data: The body.
        reply: Where an answer goes; empty when none is expected.
        headers: NATS headers; ``None`` when there are none. The server's own answers carry
            ``Status`` (three digits) and perhaps ``Description``.
    """

    subject: str
    data: bytes
    reply: str = ""
    headers: Headers | None = None

    @property
    def no_responders(self) -> bool:
        """Whether the server says that nobody is subscribed to the subject of a request."""
        headers = self.headers
        return headers is not None and headers.get("Status") == "503" and not self.data


@dataclass(frozen=True, slots=True)
class Entry:
    """A live value of a bucket, at the revision that ``put`` returned for it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """A write to a bucket, seen as it was published.

    Attributes:
        key: The key.
        value: The new value; ``None`` when the key was deleted.
        revision: The revision, or 0 when the transport cannot know it. A watch is a plain
            subscription on the writes, which have no revision yet: always 0 today.
    """

    key: str
    value: bytes | None
    revision: int = 0


@dataclass(slots=True)
class Statistics:
    """Counters of one transport since it was connected; read them, do not write them.

    Attributes:
        disconnects: How often the connection was lost.
        reconnects: How often it came back.
        dropped_deliveries: Messages dropped here because a bounded queue was full. The NATS
            transport has no such queue (see ``transports.nats``), so there it stays 0.
        handler_errors: Exceptions raised by handlers and reconnect listeners.
        server_errors: Errors the server or the network reported outside of any call, such as a
            permission violation or a failed attempt to reconnect.
    """

    disconnects: int = 0
    reconnects: int = 0
    dropped_deliveries: int = 0
    handler_errors: int = 0
    server_errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSettings:
    """How ``Transport.key_value`` creates a bucket that does not exist yet.

    Attributes:
        create: Create it when absent; needs the right to do so. Otherwise it must exist.
        replicas: Copies in a cluster (1, 3 or 5).
        in_memory: Keep it in the server's memory: lost when the server restarts.
        maximum_bytes: Refuse writes beyond this size; ``None`` is unlimited.
        marker_seconds: How long the mark of an expired or deleted key stays, at least 1.
    """

    create: bool = True
    replicas: int = 1
    in_memory: bool = False
    maximum_bytes: int | None = None
    marker_seconds: int = 5


Handler = Callable[[Delivery], None]
"""Called on the event loop for each message: synchronous and quick. An exception in it is logged
once per kind and counted, and never ends the subscription."""

ChangeHandler = Callable[[Change], None]
"""Called on the event loop for each change, under the same rules as ``Handler``."""


class Subscription(Protocol):
    """Interest in a subject. Both methods may be called again, and after ``close``: no effect."""

    async def unsubscribe(self) -> None:
        """Stop at once; messages under way are discarded."""

    async def drain(self) -> None:
        """Stop receiving new messages and return when all that were under way were handled."""


class KeyValue(Protocol):
    """A bucket of keys with compare-and-set and a time to live for each value.

    Keys are made of letters, digits and ``-_=/.``; patterns may use ``*`` and a final ``>``.
    Every method raises ``BusUnavailable`` or ``RequestTimeout`` when the server cannot answer.
    """

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        ttl: float | None = None,
        expected_revision: int | None = None,
    ) -> int:
        """Write ``value`` and return its revision.

        Args:
            key: The key.
            value: The value.
            ttl: Seconds until it expires, rounded up to a whole second; ``None`` is for ever.
            expected_revision: Write only when this is the present revision; 0 means absent
                (never written, deleted or expired).

        Raises:
            RevisionConflict: The key has another revision.
            PayloadTooLarge: The value is larger than the server accepts.
        """

    async def get(self, key: str) -> Entry | None:
        """The live entry, or ``None`` when the key is absent, deleted or expired."""

    async def delete(self, key: str, *, expected_revision: int | None = None) -> None:
        """Delete the key; one that is absent is left so.

        Raises:
            RevisionConflict: ``expected_revision`` is given, and the key has another.
        """

    async def entries(self, pattern: str = ">") -> list[Entry]:
        """All live entries whose key matches, in the order in which they were written."""

    async def watch(self, pattern: str, handler: ChangeHandler) -> Subscription:
        """Call ``handler`` for each write and deletion from now on.

        A change is reported when its write is *sent*: one that the server then refuses (a
        compare-and-set that lost, for example) is reported as well, so a watcher decides from the
        value, not from its arrival. An expiry is not reported; who needs to know it keeps the
        time itself. After a reconnect, read ``entries`` again: changes in between were missed.
        """


class Transport(Protocol):
    """A connection to the bus. Use one per process; all methods are for one event loop.

    Every method raises ``BusUnavailable`` after ``close``.
    """

    @property
    def connected(self) -> bool:
        """Whether messages reach the server now; ``False`` while reconnecting and when closed."""

    @property
    def max_payload(self) -> int:
        """The largest message, headers included, in bytes. It may change at a reconnect."""

    @property
    def statistics(self) -> Statistics:
        """The live counters."""

    def new_inbox(self) -> str:
        """A subject nobody else uses, below the inbox prefix of this connection."""

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Headers | None = None
    ) -> None:
        """Send a message to whoever is subscribed.

        With ``reply`` and no subscriber, the reply subject receives a delivery with
        ``no_responders``.

        Raises:
            PayloadTooLarge: Larger than ``max_payload``.
            ProtocolError: ``subject``, ``reply`` or a header name is malformed.
            BusUnavailable: Closed, or disconnected with a full buffer.
        """

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", confirmed: bool = True
    ) -> Subscription:
        """Receive messages; when this returns, the server has the subscription.

        Args:
            subject: A subject; a token may be ``*``, the last one ``>``.
            handler: Called for each message.
            queue: Name of a group: each message reaches one member of the group.
            confirmed: Whether to wait until the server has it. Otherwise the server has it before
                whatever this connection sends next, and a refusal shows in the statistics only.

        Raises:
            ProtocolError: ``subject`` or ``queue`` is malformed.
            BusUnavailable: The server did not confirm it, or refused it
                (code ``PERMISSION_DENIED``).
        """

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Headers | None = None
    ) -> Delivery:
        """Send a message and return the first answer.

        While disconnected the request waits, and is not sent when ``timeout`` passes first.

        Raises:
            NoResponders: Nobody is subscribed to ``subject``.
            RequestTimeout: No answer within ``timeout`` seconds.
            BusUnavailable: Closed, or the server refuses the subject (``PERMISSION_DENIED``).
            PayloadTooLarge: Larger than ``max_payload``.
        """

    async def key_value(self, bucket: str, *, settings: BucketSettings | None = None) -> KeyValue:
        """Open a bucket, creating it when it does not exist.

        Raises:
            BusUnavailable: The server has no JetStream, or the bucket cannot be used.
        """

    def streams(self) -> Streams:
        """Stored messages of this account; made at the first use (see ``transports.streams``)."""

    def add_reconnect_listener(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after each reconnect, subscriptions restored; returns the remover."""

    async def flush(self) -> None:
        """Return when the server has processed everything sent before.

        Raises:
            BusUnavailable: It did not confirm in time.
        """

    async def drain(self) -> None:
        """End all subscriptions without losing a message, send what is buffered, and close."""

    async def close(self) -> None:
        """Close at once. Requests under way raise ``BusUnavailable``. May be called again."""
