"""An instance's side of the registry: announce, renew the lease, say goodbye.

Spec: spec/nats-binding.md, registry. A renewal is a compare-and-set on the revision of the last
one; when that is lost (expired while the server was away, or the server lost its data) the
instance announces itself again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

import msgspec

from dragoman_bus.protocol.canonical import digest_of
from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import RevisionConflict, TransportError
from dragoman_bus.protocol.leases import renewal_interval
from dragoman_bus.protocol.messages import AgentAnnounce, AgentLease
from dragoman_bus.protocol.payloads import AnnounceData, LeaseData
from dragoman_bus.protocol.subjects import REGISTRY_BUCKET, card_key, lease_key
from dragoman_bus.transports.port import KeyValue, Transport

__all__ = ["LeaseKeeper", "card_digest"]

logger = logging.getLogger("dragoman.registry")

RETRY_SECONDS = 1.0


def card_digest(announce: AnnounceData) -> str:
    """The digest that names an announcement: over its canonical JSON."""
    return digest_of(msgspec.to_builtins(announce))


class LeaseKeeper:
    """Keeps one instance in the registry.

    Args:
        transport: The bus.
        announce: What the agent is; put once under its digest.
        lease: Makes the lease as it is now; called for each renewal.
        sender: Wraps both into envelopes.
    """

    def __init__(
        self,
        transport: Transport,
        announce: AnnounceData,
        lease: Callable[[], LeaseData],
        sender: Sender,
    ) -> None:
        self._transport = transport
        self._announce = announce
        self._lease = lease
        self._sender = sender
        self._digest = card_digest(announce)
        self._revision: int | None = None
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._remove_listener: Callable[[], None] = lambda: None
        self._bucket: KeyValue | None = None

    async def start(self) -> None:
        """Announce card and lease, then renew until ``stop``.

        Raises:
            BusUnavailable: the server has no JetStream, or refuses the bucket.
        """
        self._bucket = await self._transport.key_value(REGISTRY_BUCKET)
        await self._put_card(self._bucket)
        await self._renew(self._bucket)
        self._remove_listener = self._transport.add_reconnect_listener(self._wake.set)
        self._task = asyncio.create_task(self._keep(), name="dragoman lease")

    async def update(self) -> None:
        """Publish the lease as it is now, for instance when draining starts."""
        if self._bucket is not None:
            await self._renew(self._bucket)

    async def stop(self) -> None:
        """Goodbye: stop renewing and delete the lease; may be called again.

        Never raises for an absent server.
        """
        self._remove_listener()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        bucket, self._bucket = self._bucket, None
        if bucket is None:
            return
        lease = self._lease()
        try:
            await bucket.delete(lease_key(lease.agent, lease.instance))
        except TransportError as error:
            # The lease then ends by itself (spec/nats-binding.md, goodbye).
            logger.warning("goodbye of %s was not delivered: %s", lease.instance, error)

    async def _keep(self) -> None:
        delay = renewal_interval(self._lease().lease_seconds)
        lost = False
        while True:
            lost = await self._sleep(delay) or lost or not self._transport.connected
            try:
                if lost or self._bucket is None:
                    # A server that came back may have lost what it stored, the bucket as well.
                    self._bucket = await self._transport.key_value(REGISTRY_BUCKET)
                    await self._put_card(self._bucket)
                await self._renew(self._bucket)
                delay = renewal_interval(self._lease().lease_seconds)
                lost = False
            except TransportError as error:
                logger.warning("lease not renewed, trying again: %s", error)
                delay = RETRY_SECONDS * random.uniform(0.5, 1.0)
                lost = True

    async def _sleep(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _put_card(self, bucket: KeyValue) -> None:
        key = card_key(self._announce.agent, self._digest)
        if await bucket.get(key) is None:
            envelope = self._sender.wrap(AgentAnnounce, self._announce)
            with contextlib.suppress(RevisionConflict):
                # Another replica put the very same card first.
                await bucket.put(key, encode(envelope), ttl=None, expected_revision=0)

    async def _renew(self, bucket: KeyValue) -> None:
        async with self._lock:
            lease = self._lease()
            key = lease_key(lease.agent, lease.instance)
            value = encode(self._sender.wrap(AgentLease, lease))
            try:
                self._revision = await bucket.put(
                    key, value, ttl=lease.lease_seconds, expected_revision=self._revision or 0
                )
            except RevisionConflict:
                # Nobody else writes this key: it expired, or the server lost it.
                logger.info("lease of %s was lost; announcing again", lease.instance)
                await self._put_card(bucket)
                held = await bucket.get(key)
                self._revision = await bucket.put(
                    key,
                    value,
                    ttl=lease.lease_seconds,
                    expected_revision=held.revision if held else None,
                )
