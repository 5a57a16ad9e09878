"""A bucket in memory that behaves like one on JetStream, expiry and all."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dragoman_bus.protocol.errors import BusUnavailable, RevisionConflict
from dragoman_bus.transports.keys import check_key, is_marker
from dragoman_bus.transports.matching import check_pattern, subject_matches
from dragoman_bus.transports.port import (
    Change,
    ChangeHandler,
    Delivery,
    Entry,
    Headers,
    Subscription,
    Transport,
)

__all__ = ["Bucket", "MemoryKeyValue"]


@dataclass(slots=True)
class _Value:
    entry: Entry
    expires: float


class Bucket:
    """The values of one bucket, at the broker.

    Args:
        clock: Seconds that never go back; decides what has expired.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._revision = 0
        self._values: dict[str, _Value] = {}

    def get(self, key: str) -> Entry | None:
        """The live entry, or ``None``."""
        value = self._values.get(key)
        if value is None or value.expires <= self._clock():
            return None
        return value.entry

    def entries(self, pattern: str) -> list[Entry]:
        """The live entries that match, oldest write first."""
        now = self._clock()
        return [
            value.entry
            for key, value in self._values.items()
            if value.expires > now and subject_matches(pattern, key)
        ]

    def check(self, key: str, expected: int | None) -> None:
        """Raise ``RevisionConflict`` unless ``key`` is at the expected revision."""
        live = self.get(key)
        if expected is not None and (live.revision if live else 0) != expected:
            raise RevisionConflict(f"the key {key} is not at revision {expected}")

    def put(self, key: str, value: bytes, ttl: float | None) -> int:
        """Store a value; its time to live counts in whole seconds, as on a server."""
        self._revision += 1
        expires = math.inf if ttl is None else self._clock() + max(1, math.ceil(ttl))
        self._values.pop(key, None)
        self._values[key] = _Value(Entry(key, value, self._revision), expires)
        return self._revision

    def delete(self, key: str) -> None:
        """Remove a key, if it is there; like a mark on a server, that takes a revision."""
        self._revision += 1
        self._values.pop(key, None)


class MemoryKeyValue:
    """A ``KeyValue`` on a ``Bucket``.

    Args:
        transport: The connection whose watchers and writes go through the broker.
        bucket: Where the values are.
        name: The name of the bucket.
        reachable: Awaited before each operation; raises when the broker cannot be reached.
    """

    def __init__(
        self,
        transport: Transport,
        bucket: Bucket,
        name: str,
        reachable: Callable[[], Awaitable[None]],
    ) -> None:
        self._transport = transport
        self._bucket = bucket
        self._prefix = f"$KV.{name}."
        self._reachable = reachable

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        ttl: float | None = None,
        expected_revision: int | None = None,
    ) -> int:
        """See ``KeyValue.put``."""
        await self._announce(key, value, None)
        self._bucket.check(key, expected_revision)
        return self._bucket.put(key, value, ttl)

    async def get(self, key: str) -> Entry | None:
        """See ``KeyValue.get``."""
        check_key(key)
        await self._reachable()
        return self._bucket.get(key)

    async def delete(self, key: str, *, expected_revision: int | None = None) -> None:
        """See ``KeyValue.delete``."""
        await self._announce(key, b"", {"KV-Operation": "DEL"})
        self._bucket.check(key, expected_revision)
        self._bucket.delete(key)

    async def entries(self, pattern: str = ">") -> list[Entry]:
        """See ``KeyValue.entries``."""
        check_pattern(pattern)
        await self._reachable()
        return self._bucket.entries(pattern)

    async def watch(self, pattern: str, handler: ChangeHandler) -> Subscription:
        """See ``KeyValue.watch``."""
        start = len(self._prefix)

        def receive(delivery: Delivery) -> None:
            value = None if is_marker(delivery) else delivery.data
            handler(Change(delivery.subject[start:], value))

        return await self._transport.subscribe(self._prefix + pattern, receive)

    async def _announce(self, key: str, value: bytes, headers: Headers | None) -> None:
        """Show a write to the watchers, refused or not, as a server would."""
        check_key(key)
        await self._reachable()
        await self._transport.publish(self._prefix + key, value, headers=headers)
        if not self._transport.connected:
            raise BusUnavailable("the bus was disconnected during a write")
