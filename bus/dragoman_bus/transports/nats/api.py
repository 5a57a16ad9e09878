"""Calls of the JetStream API as plain requests, and its errors as ours.

Nothing of nats-py's own JetStream layer is used: it makes consumers where none are needed.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from dragoman_bus.protocol.errors import (
    BusUnavailable,
    DragomanError,
    NoResponders,
    RevisionConflict,
    StreamFull,
)
from dragoman_bus.transports.port import Delivery, Handler, Headers, Subscription

__all__ = [
    "NANOSECONDS",
    "NO_JETSTREAM",
    "Answer",
    "Connection",
    "Failure",
    "call",
    "error_of",
    "header",
]

NANOSECONDS = 1_000_000_000
TIMEOUT_SECONDS = 5.0

NO_JETSTREAM = (
    "JetStream is off on the NATS server; start it with `nats-server -js` (or use `dragoman up`), "
    "and enable JetStream for the account"
)

STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
MESSAGE_NOT_FOUND = 10043
NAME_IN_USE = 10058
# What decides is on its way to being stored (replicated streams): a message that an expectation is
# compared with, or one of the same identity.
ON_ITS_WAY = (10164, 10158)
WRONG_LAST_SEQUENCE = (10071, 10164)
# Maximum messages per subject, messages, bytes; the file store of the account.
FULL = (10077, 10047, 10023, 10122)
# What a stream would reserve is more than the server, or the account, has left.
NO_ROOM = (10047, 10028, 10002)
JETSTREAM_OFF = (10039, 10076)


class Failure(msgspec.Struct):
    """The ``error`` of an answer."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Answer(msgspec.Struct):
    """What matters in an acknowledgement or in an answer of the API."""

    seq: int = 0
    duplicate: bool = False
    purged: int = 0
    error: Failure | None = None
    config: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    num_pending: int = 0
    num_ack_pending: int = 0
    consumers: list[str] | None = None
    total: int = 0


class Connection(Protocol):
    """What is used of the transport."""

    @property
    def max_payload(self) -> int:
        """As ``Transport.max_payload``."""

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Headers | None = None
    ) -> None:
        """As ``Transport.publish``."""

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Headers | None = None
    ) -> Delivery:
        """As ``Transport.request``."""

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """As ``Transport.subscribe``."""

    def new_inbox(self) -> str:
        """As ``Transport.new_inbox``."""

    def add_reconnect_listener(self, listener: Any) -> Any:
        """As ``Transport.add_reconnect_listener``."""


async def call(connection: Connection, name: str, body: dict[str, Any] | None = None) -> Answer:
    """One call; an error of the API stands in the answer.

    Raises:
        BusUnavailable: ``NOT_CONFIGURED`` when nobody answers the API: JetStream is off.
    """
    document = b"" if body is None else msgspec.json.encode(body)
    try:
        answer = await connection.request(f"$JS.API.{name}", document, timeout=TIMEOUT_SECONDS)
    except NoResponders as error:
        raise BusUnavailable(NO_JETSTREAM, code="NOT_CONFIGURED") from error
    return msgspec.json.decode(answer.data, type=Answer)


def error_of(what: str, failure: Failure) -> DragomanError:
    """The exception for an error of the API."""
    words = f"{what}: {failure.description} (JetStream error {failure.err_code})"
    if failure.err_code in WRONG_LAST_SEQUENCE:
        return RevisionConflict(words)
    if failure.err_code in FULL:
        return StreamFull(words, retry_after=1.0)
    if failure.err_code in JETSTREAM_OFF:
        return BusUnavailable(NO_JETSTREAM, code="NOT_CONFIGURED")
    return BusUnavailable(words)


def header(delivery: Delivery, name: str) -> str:
    """A header, or the empty string."""
    return "" if delivery.headers is None else delivery.headers.get(name, "")
