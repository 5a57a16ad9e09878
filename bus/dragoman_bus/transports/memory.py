"""The transport in memory: a broker in this process, for tests and single-process programs.

It keeps to the rules of NATS that Dragoman relies on: wildcards, queue groups, "no responders",
the payload limit, at-most-once delivery, buffering while disconnected. Handlers run later, never
inside ``publish``. ``MemoryBroker.partition`` and ``heal`` stand for a network that fails.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable

from dragoman_bus.protocol.errors import (
    BusUnavailable,
    PayloadTooLarge,
    RequestTimeout,
)
from dragoman_bus.transports.dispatch import HandlerErrors
from dragoman_bus.transports.matching import (
    check_pattern,
    check_subject,
    is_pattern,
    subject_matches,
)
from dragoman_bus.transports.memory_key_value import Bucket, MemoryKeyValue
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
from dragoman_bus.transports.streams import Streams

__all__ = ["MemoryBroker", "MemoryTransport"]

_logger = logging.getLogger("dragoman.transports.memory")


class _Subscription:
    """Interest of one transport, and how many of its deliveries are under way."""

    def __init__(self, owner: MemoryTransport, subject: str, queue: str, handler: Handler) -> None:
        self.owner = owner
        self.subject = subject
        self.queue = queue
        self._handler = handler
        self._ended = False
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, delivery: Delivery) -> None:
        if self._waiting >= self.owner.broker.pending_messages:
            self.owner.statistics.dropped_deliveries += 1
            return
        self._waiting += 1
        self._idle.clear()
        self.owner.enqueue(self, delivery)

    def handle(self, delivery: Delivery) -> None:
        try:
            if not self._ended:
                self._handler(delivery)
        except Exception as error:  # noqa: BLE001 - whatever it raises
            self.owner.errors.report(self.subject, error)
        self.forget_one()

    def forget_one(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._idle.set()

    def end(self) -> None:
        """Handle nothing any more, not even what is under way."""
        self._ended = True

    async def unsubscribe(self) -> None:
        self.owner.broker.remove(self)
        self.end()

    async def drain(self) -> None:
        self.owner.broker.remove(self)
        await self._idle.wait()


class MemoryBroker:
    """What the transports of one bus share.

    Args:
        max_payload: Largest message in bytes.
        pending_messages: Deliveries a subscription holds until its handler runs; more are dropped.
        pending_bytes: Bytes a disconnected transport buffers.
        seed: Of the random choice among the members of a queue group.
        clock: Seconds that never go back, for the time to live of values.
    """

    def __init__(
        self,
        *,
        max_payload: int = 1024 * 1024,
        pending_messages: int = 65_536,
        pending_bytes: int = 8 * 1024 * 1024,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_payload = max_payload
        self.pending_messages = pending_messages
        self.pending_bytes = pending_bytes
        self._clock = clock
        self._random = random.Random(seed)
        self._exact: dict[str, list[_Subscription]] = {}
        self._patterns: list[_Subscription] = []
        self._buckets: dict[str, Bucket] = {}
        self._transports: list[MemoryTransport] = []
        self._inboxes = 0

    def connect(self) -> MemoryTransport:
        """A new connection to this broker."""
        transport = MemoryTransport(self)
        self._transports.append(transport)
        return transport

    def partition(self, *transports: MemoryTransport) -> None:
        """Cut the given transports off, or all of them; what was under way to them is lost."""
        for transport in transports or list(self._transports):
            transport.lose_connection()

    def heal(self, *transports: MemoryTransport) -> None:
        """Connect them again, then send what they buffered and call their listeners."""
        back = [t for t in transports or list(self._transports) if not t.connected]
        for transport in back:
            transport.regain_connection()
        for transport in back:
            transport.send_buffered()

    def inbox(self) -> str:
        """A subject nobody else has."""
        self._inboxes += 1
        return f"_INBOX.memory-{self._inboxes}"

    def bucket(self, name: str, *, create: bool) -> Bucket:
        """The bucket of that name; ``BusUnavailable`` when it is absent and not to be created."""
        if name not in self._buckets and not create:
            raise BusUnavailable(f"the bucket {name} does not exist")
        return self._buckets.setdefault(name, Bucket(self._clock))

    def add(self, subscription: _Subscription) -> None:
        """Deliver to ``subscription`` from now on."""
        if is_pattern(subscription.subject):
            self._patterns.append(subscription)
        else:
            self._exact.setdefault(subscription.subject, []).append(subscription)

    def remove(self, subscription: _Subscription) -> None:
        """Deliver no more to ``subscription``; a second call has no effect."""
        if subscription in self._patterns:
            self._patterns.remove(subscription)
        same = self._exact.get(subscription.subject, [])
        if subscription in same:
            same.remove(subscription)
            if not same:
                del self._exact[subscription.subject]

    def detach(self, transport: MemoryTransport) -> None:
        """Forget a closed transport and its subscriptions."""
        for subscription in self.subscriptions_of(transport):
            self.remove(subscription)
            subscription.end()
        if transport in self._transports:
            self._transports.remove(transport)

    def subscriptions_of(self, transport: MemoryTransport) -> list[_Subscription]:
        """The subscriptions of one transport."""
        exact = [found for group in self._exact.values() for found in group]
        return [found for found in exact + self._patterns if found.owner is transport]

    def route(self, delivery: Delivery) -> None:
        """Give a message to every plain subscriber and to one member of each queue group."""
        groups: dict[tuple[str, str], list[_Subscription]] = {}
        reached = False
        for subscription in self._matching(delivery.subject):
            reached = True
            if subscription.queue:
                key = (subscription.subject, subscription.queue)
                groups.setdefault(key, []).append(subscription)
            else:
                subscription.offer(delivery)
        for members in groups.values():
            self._random.choice(members).offer(delivery)
        if not reached and delivery.reply and not delivery.no_responders:
            self.route(Delivery(delivery.reply, b"", "", {"Status": "503"}))

    def _matching(self, subject: str) -> list[_Subscription]:
        found = list(self._exact.get(subject, ()))
        found += [s for s in self._patterns if subject_matches(s.subject, subject)]
        return [s for s in found if s.owner.connected]


class MemoryTransport:
    """A ``Transport`` on a ``MemoryBroker``. Make one with ``MemoryBroker.connect``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self._statistics = Statistics()
        self.errors = HandlerErrors(_logger, self._statistics)
        self._requests = RequestMultiplexer(self)
        self._listeners: list[Callable[[], None]] = []
        self._closed = False
        self._buffered: list[Delivery] = []
        self._arrived: deque[tuple[_Subscription, Delivery]] = deque()
        self._scheduled = False
        self._up = asyncio.Event()
        self._up.set()

    @property
    def connected(self) -> bool:
        """See ``Transport.connected``."""
        return self._up.is_set() and not self._closed

    @property
    def max_payload(self) -> int:
        """See ``Transport.max_payload``."""
        return self.broker.max_payload

    @property
    def statistics(self) -> Statistics:
        """See ``Transport.statistics``."""
        return self._statistics

    def add_reconnect_listener(self, listener: Callable[[], None]) -> Callable[[], None]:
        """See ``Transport.add_reconnect_listener``."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def new_inbox(self) -> str:
        """See ``Transport.new_inbox``."""
        return self.broker.inbox()

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Headers | None = None
    ) -> None:
        """See ``Transport.publish``."""
        check_subject(subject)
        if reply:
            check_subject(reply)
        self._check_open()
        size = len(data) + sum(len(name) + len(text) + 4 for name, text in (headers or {}).items())
        if size > self.max_payload:
            raise PayloadTooLarge(
                f"a message of {size} bytes to {subject} exceeds the limit of "
                f"{self.max_payload} bytes"
            )
        delivery = Delivery(subject, bytes(data), reply, dict(headers) if headers else None)
        if self.connected:
            self.broker.route(delivery)
        elif sum(len(waiting.data) for waiting in self._buffered) + size <= self._buffer_size:
            self._buffered.append(delivery)
        else:
            raise BusUnavailable("the bus is disconnected and the buffer is full")

    @property
    def _buffer_size(self) -> int:
        return self.broker.pending_bytes

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", confirmed: bool = True
    ) -> Subscription:
        """See ``Transport.subscribe``."""
        check_pattern(subject)
        if queue:
            check_subject(queue)
        self._check_open()
        subscription = _Subscription(self, subject, queue, handler)
        self.broker.add(subscription)
        return subscription

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Headers | None = None
    ) -> Delivery:
        """See ``Transport.request``."""
        self._check_open()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self._until_connected(timeout, f"the request to {subject} was not sent")
        remaining = max(0.001, deadline - loop.time())
        return await self._requests.request(subject, data, timeout=remaining, headers=headers)

    async def key_value(self, bucket: str, *, settings: BucketSettings | None = None) -> KeyValue:
        """See ``Transport.key_value``; of the settings only ``create`` matters in memory."""
        self._check_open()
        values = self.broker.bucket(bucket, create=(settings or BucketSettings()).create)
        return MemoryKeyValue(self, values, bucket, self._reach_bucket)

    def streams(self) -> Streams:
        """See ``Transport.streams``."""
        raise BusUnavailable(
            "durable delivery needs a NATS server: the in-memory bus has no streams",
            code="NOT_CONFIGURED",
        )

    async def flush(self) -> None:
        """See ``Transport.flush``; handlers of what was delivered before have run, as on NATS."""
        self._check_open()
        await self._up.wait()
        await asyncio.sleep(0)
        self._check_open()

    async def drain(self) -> None:
        """See ``Transport.drain``."""
        for subscription in self.broker.subscriptions_of(self):
            await subscription.drain()
        await self.close()

    async def close(self) -> None:
        """See ``Transport.close``."""
        self._closed = True
        self._up.set()
        self.broker.detach(self)
        self._requests.close()

    def enqueue(self, subscription: _Subscription, delivery: Delivery) -> None:
        """Have the event loop handle a delivery: in the order of arrival, whichever the subject."""
        self._arrived.append((subscription, delivery))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._handle_arrived)

    def _handle_arrived(self) -> None:
        self._scheduled = False
        while self._arrived:
            subscription, delivery = self._arrived.popleft()
            subscription.handle(delivery)

    def lose_connection(self) -> None:
        """What ``MemoryBroker.partition`` does to this side."""
        if self.connected:
            self._statistics.disconnects += 1
            self._up.clear()
        while self._arrived:
            self._arrived.popleft()[0].forget_one()

    def regain_connection(self) -> None:
        """The first half of ``MemoryBroker.heal``: subscriptions receive again."""
        self._statistics.reconnects += 1
        self._up.set()

    def send_buffered(self) -> None:
        """The second half of ``MemoryBroker.heal``."""
        buffered, self._buffered = self._buffered, []
        for delivery in buffered:
            self.broker.route(delivery)
        self.errors.call_all(self._listeners)

    async def _until_connected(self, timeout: float, consequence: str) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError as error:
            raise RequestTimeout(
                f"the bus was disconnected for {timeout:g} s; {consequence}"
            ) from error
        self._check_open()

    async def _reach_bucket(self) -> None:
        self._check_open()
        await self._until_connected(5.0, "the bucket was not reached")

    def _check_open(self) -> None:
        if self._closed:
            raise BusUnavailable("this connection is closed")
