"""One of several supervisors acts: whoever holds a lease that expires.

Spec: spec/durable.md, supervisor. Two that act at once do no harm; the lease saves the work.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from dragoman_bus.protocol.errors import DragomanError, RevisionConflict
from dragoman_bus.transports.port import BucketSettings, KeyValue, Transport

__all__ = ["LEADER_BUCKET", "LEADER_KEY", "Leadership"]

logger = logging.getLogger("dragoman.supervisor")

LEADER_BUCKET = "dragoman_supervisor"
LEADER_KEY = "lead"


class Leadership:
    """Holds, or waits for, the lease of the acting supervisor.

    Args:
        transport: The bus.
        identity: Who holds it; the value of the key.
        gained: Called when this one begins to act.
        lost: Called when it must stop.
        told: Called with whether this one acts, at first and after each change.
        lease_seconds: How long after its death another one takes over.
    """

    def __init__(
        self,
        transport: Transport,
        identity: str,
        gained: Callable[[], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
        *,
        told: Callable[[bool], None] = lambda acts: None,
        lease_seconds: float = 5.0,
        replicas: int = 1,
    ) -> None:
        self.leads = False
        self._told: bool | None = None
        self._tell = told
        self._transport = transport
        self._identity = identity.encode()
        self._gained = gained
        self._lost = lost
        self._lease = lease_seconds
        self._settings = BucketSettings(replicas=replicas, marker_seconds=1)
        self._bucket: KeyValue | None = None
        self._revision = 0

    async def run(self) -> None:
        """Try for ever; cancel it to leave, then call ``resign``."""
        while True:
            try:
                await self._renew()
            except RevisionConflict:
                self._revision = 0
                await self._set(False)
            except DragomanError as error:
                # The lease may still be ours; that it cannot be renewed says nothing.
                logger.warning("the supervisor's lease waits: %s", error)
            except Exception:
                # A defect; a supervisor that has silently stopped would be worse.
                logger.exception("the supervisor tries again")
            pause = self._lease / 3 if self.leads else self._lease / 5
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    async def resign(self) -> None:
        """Let another one act at once."""
        if self.leads and self._bucket is not None:
            try:
                await self._bucket.delete(LEADER_KEY, expected_revision=self._revision)
            except DragomanError as error:
                logger.info("the supervisor's lease ends by itself: %s", error)
        # Who leaves knows that it does not act.
        self._told = False
        await self._set(False)

    async def _renew(self) -> None:
        if self._bucket is None:
            self._bucket = await self._transport.key_value(LEADER_BUCKET, settings=self._settings)
        self._revision = await self._bucket.put(
            LEADER_KEY, self._identity, ttl=self._lease, expected_revision=self._revision
        )
        await self._set(True)

    async def _set(self, leads: bool) -> None:
        if leads != self.leads:
            self.leads = leads
            logger.info("this supervisor %s", "acts" if leads else "waits")
            await (self._gained() if leads else self._lost())
        if leads != self._told:
            self._told = leads
            self._tell(leads)
