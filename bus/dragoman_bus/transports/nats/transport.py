"""The port on NATS: messages, subscriptions, requests and buckets over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription as ClientSubscription

from dragoman_bus.protocol.errors import (
    BusUnavailable,
    PayloadTooLarge,
    ProtocolError,
    RequestTimeout,
)
from dragoman_bus.transports.nats.client import Dispatch
from dragoman_bus.transports.nats.connection import Connection, logger
from dragoman_bus.transports.nats.key_value import open_bucket
from dragoman_bus.transports.nats.options import NatsOptions
from dragoman_bus.transports.nats.streams import JetStream
from dragoman_bus.transports.port import (
    BucketSettings,
    Delivery,
    Handler,
    Headers,
    KeyValue,
    Statistics,
    Subscription,
)
from dragoman_bus.transports.requests import RequestMultiplexer

__all__ = ["NatsTransport", "connect_nats"]

_HEADER_FRAME = len(b"NATS/1.0\r\n\r\n")
_HEADER_LINE = len(b": \r\n")


class _Subscription:
    """A subscription that outlives the client it was made on."""

    def __init__(self, connection: Connection, subject: str, queue: str, handler: Handler) -> None:
        self.subject = subject
        self._connection = connection
        self._queue = queue
        self._dispatch = Dispatch(subject, handler, connection.errors)
        self._inner: ClientSubscription | None = None

    async def attach(self, client: Client) -> None:
        self._inner = await client.subscribe(self.subject, queue=self._queue, future=self._dispatch)

    async def unsubscribe(self) -> None:
        inner = self._detach()
        if inner is not None:
            await self._unsubscribe(inner)

    async def drain(self) -> None:
        inner = self._detach()
        if inner is None:
            return
        drain: Callable[[], Awaitable[None]] = inner.drain
        drained = False
        try:
            await drain()
            drained = True
        except nats.errors.Error as error:
            logger.debug("draining %s was interrupted: %s", self.subject, error)
        finally:
            if not drained:
                # nats-py takes an interrupted drain for a finished one, refuses to unsubscribe,
                # and yet makes the subscription again at the next reconnect.
                inner._closed = False
                await self._unsubscribe(inner)

    def _detach(self) -> ClientSubscription | None:
        inner, self._inner = self._inner, None
        self._connection.attached.discard(self)
        return inner

    async def _unsubscribe(self, inner: ClientSubscription) -> None:
        try:
            await inner.unsubscribe()
        except nats.errors.Error as error:
            logger.debug("the subscription to %s had ended before: %s", self.subject, error)


class NatsTransport:
    """A ``Transport`` on a NATS server or cluster. Make one with ``NatsTransport.connect``.

    Args:
        options: How to reach the server; see ``NatsOptions``.
    """

    def __init__(self, options: NatsOptions) -> None:
        self._requests = RequestMultiplexer(self)
        self._connection = Connection(options, self._requests.refuse)
        self._streams: JetStream | None = None

    @classmethod
    async def connect(cls, options: NatsOptions | None = None) -> NatsTransport:
        """Connect, or say what to do; without options, as ``NatsOptions.from_url()``.

        Raises:
            BusUnavailable: No server answers within ``connect_timeout``, or it refuses the login
                (code ``PERMISSION_DENIED``).
            NotConfigured: The options contradict each other, or name files that are missing.
        """
        transport = cls(options or NatsOptions.from_url())
        await transport._connection.open()
        return transport

    @property
    def connected(self) -> bool:
        """See ``Transport.connected``."""
        return self._connection.connected

    @property
    def max_payload(self) -> int:
        """See ``Transport.max_payload``."""
        return int(self._connection.client.max_payload)

    @property
    def statistics(self) -> Statistics:
        """See ``Transport.statistics``."""
        return self._connection.statistics

    def add_reconnect_listener(self, listener: Callable[[], None]) -> Callable[[], None]:
        """See ``Transport.add_reconnect_listener``."""
        listeners = self._connection.listeners
        listeners.append(listener)

        def remove() -> None:
            if listener in listeners:
                listeners.remove(listener)

        return remove

    def new_inbox(self) -> str:
        """See ``Transport.new_inbox``."""
        return str(self._connection.client.new_inbox())

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Headers | None = None
    ) -> None:
        """See ``Transport.publish``."""
        if self._connection.client.send(subject, data, reply, headers):
            return
        if headers is not None:
            self._check_size(subject, data, headers)
            headers = dict(headers)
        try:
            await self._connection.client.publish(subject, data, reply, headers)
        except nats.errors.MaxPayloadError as error:
            raise self._too_large(subject, len(data)) from error
        except (nats.errors.BadSubjectError, nats.errors.BadHeaderError) as error:
            raise ProtocolError(f"cannot publish to {subject!r}: {error}") from error
        except nats.errors.Error as error:
            raise self._unavailable(f"cannot publish to {subject}", error) from error

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", confirmed: bool = True
    ) -> Subscription:
        """See ``Transport.subscribe``."""
        self._connection.check_open()
        self._connection.refused_subscriptions.discard(subject.lower())
        subscription = _Subscription(self._connection, subject, queue, handler)
        try:
            await self._attach(subscription)
            if confirmed:
                await self._connection.flush()
                self._check_granted(subject)
        except BaseException:
            await subscription.unsubscribe()
            raise
        return subscription

    async def _attach(self, subscription: _Subscription) -> None:
        self._connection.attached.add(subscription)
        try:
            await subscription.attach(self._connection.client)
        except nats.errors.BadSubjectError as error:
            raise ProtocolError(f"{subscription.subject!r} cannot be subscribed to") from error
        except nats.errors.ConnectionClosedError:
            # Unless this transport is closed, a new client is coming, and attaches it.
            self._connection.check_open()
        except nats.errors.Error as error:
            raise self._unavailable(f"cannot subscribe to {subscription.subject}", error) from error

    def _check_granted(self, subject: str) -> None:
        if subject.lower() in self._connection.refused_subscriptions:
            raise BusUnavailable(
                f"the server does not let this user subscribe to {subject}",
                code="PERMISSION_DENIED",
            )

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Headers | None = None
    ) -> Delivery:
        """See ``Transport.request``."""
        if not self._connection.connected:
            timeout = await self._connected_within(subject, timeout)
        return await self._requests.request(subject, data, timeout=timeout, headers=headers)

    async def _connected_within(self, subject: str, timeout: float) -> float:
        """Wait for the connection, so that a request is not sent after its time; what is left."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if not await self._connection.until_connected(timeout):
            raise RequestTimeout(
                f"the bus was disconnected for {timeout:g} s; the request to {subject} was not sent"
            )
        return max(0.001, deadline - loop.time())

    async def key_value(self, bucket: str, *, settings: BucketSettings | None = None) -> KeyValue:
        """See ``Transport.key_value``."""
        self._connection.check_open()
        return await open_bucket(self, self._requests, bucket, settings or BucketSettings())

    def streams(self) -> JetStream:
        """See ``Transport.streams``."""
        if self._streams is None:
            self._streams = JetStream(self, self._requests)
        return self._streams

    async def flush(self) -> None:
        """See ``Transport.flush``."""
        await self._connection.flush()

    async def drain(self) -> None:
        """See ``Transport.drain``."""
        await self._connection.drain()
        self._requests.close()

    async def close(self) -> None:
        """See ``Transport.close``."""
        self._requests.close()
        await self._connection.close()

    def _check_size(self, subject: str, data: bytes, headers: Headers) -> None:
        lines = sum(len(f"{name}{value}".encode()) for name, value in headers.items())
        size = len(data) + _HEADER_FRAME + lines + _HEADER_LINE * len(headers)
        if size > self.max_payload:
            raise self._too_large(subject, size)

    def _too_large(self, subject: str, size: int) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"a message of {size} bytes to {subject} exceeds the server's limit of "
            f"{self.max_payload} bytes"
        )

    def _unavailable(self, what: str, error: Exception) -> BusUnavailable:
        if self._connection.closing:
            return BusUnavailable(f"{what}: this connection to NATS is closed", retryable=False)
        return BusUnavailable(f"{what}: NATS at {self._connection.addresses} fails ({error})")


async def connect_nats(
    url: str | None = None, *, name: str = "dragoman", inbox_prefix: str = "_INBOX"
) -> NatsTransport:
    """Connect to ``url``, to ``NATS_URL``, or to a server on this machine.

    Args:
        url: One address, or several of one cluster separated by commas.
        name: Shown by the server's monitoring.
        inbox_prefix: First tokens of the subjects that answers come to.

    Raises:
        BusUnavailable: As ``NatsTransport.connect``.
    """
    options = replace(NatsOptions.from_url(url, name=name), inbox_prefix=inbox_prefix)
    return await NatsTransport.connect(options)
