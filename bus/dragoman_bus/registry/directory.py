"""A reader's side of the registry: a live local copy of all leases and their cards.

Spec: spec/nats-binding.md, registry. The copy is fed by a subscription to the bucket's subjects
and starts from a snapshot; a dead instance leaves it by lease arithmetic, without polling.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from dragoman_bus.protocol.errors import DragomanError, ProtocolError
from dragoman_bus.protocol.leases import LeaseTable
from dragoman_bus.protocol.payloads import AnnounceData, Contract, LeaseData
from dragoman_bus.protocol.subjects import REGISTRY_BUCKET, card_key, check_token
from dragoman_bus.registry.entries import is_junk, read_entry
from dragoman_bus.registry.view import AgentView, contract_of, group_views, offers
from dragoman_bus.transports.port import Change, KeyValue, Subscription, Transport

__all__ = ["Directory", "DirectoryChange"]

logger = logging.getLogger("dragoman.registry")

LEASE_GRACE_SECONDS = 0.5
"""A reader waits this much longer than the lease: renewals travel, and clocks tick apart."""

MAXIMUM_AGREED = 1024
"""Answers that are kept to what the contract of a skill is."""

MAXIMUM_REFUSED = 1024
"""Keys whose values were refused that are told of."""

HOW_TO_PRUNE = "`dragoman ls --prune` deletes what no reader can use"


class DirectoryChange(msgspec.Struct, frozen=True):
    """An instance joined, changed, said goodbye, or was lost (its lease ran out)."""

    kind: Literal["joined", "changed", "left", "lost"]
    lease: LeaseData


class Directory:
    """Who is on the bus now.

    Args:
        transport: The bus.
        clock: Monotonic seconds.
        agent: Read and hear of this one only; of all when ``None``.
    """

    def __init__(
        self,
        transport: Transport,
        clock: Callable[[], float] = time.monotonic,
        *,
        agent: str | None = None,
    ) -> None:
        self._whose = ">" if agent is None else f"{check_token(agent, 'agent name')}.>"
        self._transport = transport
        self._clock = clock
        self._leases: LeaseTable[LeaseData] = LeaseTable()
        self._cards: dict[str, AnnounceData] = {}
        self._agreed: dict[tuple[str, str | None, str | None], Contract | None] = {}
        self._listeners: list[Callable[[DirectoryChange], None]] = []
        self._changed = asyncio.Event()
        self._bucket: KeyValue | None = None
        self._subscription: Subscription | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._refresh: asyncio.Task[None] | None = None
        self._remove_listener: Callable[[], None] = lambda: None
        self._refused: set[str] = set()
        self.invalid_entries = 0

    async def start(self) -> None:
        """Subscribe, then take the snapshot; after that the copy is complete.

        Raises:
            BusUnavailable: the server has no JetStream.
        """
        self._bucket = await self._transport.key_value(REGISTRY_BUCKET)
        self._subscription = await self._bucket.watch(f"*.{self._whose}", self._on_change)
        self._remove_listener = self._transport.add_reconnect_listener(self._on_reconnect)
        await self._load(self._bucket)

    async def stop(self) -> None:
        """Stop following; the copy stays as it is."""
        self._remove_listener()
        if self._timer is not None:
            self._timer.cancel()
        pending = [*self._fetches.values(), *([self._refresh] if self._refresh else [])]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    def agents(self) -> list[AgentView]:
        """All live agents."""
        return group_views(self._leases.values(), self._cards)

    def find(
        self,
        *,
        agent: str | None = None,
        skill: str | None = None,
        tags: Iterable[str] = (),
        contract: str | None = None,
    ) -> list[AgentView]:
        """The live agents that fit all that is given."""
        wanted = tuple(tags)
        fitting = {
            digest: announce
            for digest, announce in self._cards.items()
            if offers(announce, agent=agent, skill=skill, tags=wanted, contract=contract)
        }
        return group_views(self._leases.values(), fitting)

    def contract(
        self, skill: str, *, agent: str | None = None, digest: str | None = None
    ) -> Contract | None:
        """The contract of a skill, if all live agents that fit have the same one.

        Callers ask with every task, so an answer is kept until an agent comes or goes.
        """
        asked = (skill, agent, digest)
        if asked not in self._agreed:
            if len(self._agreed) >= MAXIMUM_AGREED:
                self._agreed.clear()
            self._agreed[asked] = self._agreement(skill, agent, digest)
        return self._agreed[asked]

    def _agreement(self, skill: str, agent: str | None, digest: str | None) -> Contract | None:
        found: dict[str, Contract] = {}
        for card in {lease.card for lease in self._leases.values()}:
            announce = self._cards.get(card)
            if announce and offers(announce, agent=agent, skill=skill, contract=digest):
                contract = contract_of(announce, skill)
                if contract is not None:
                    found[contract.digest] = contract
        return next(iter(found.values())) if len(found) == 1 else None

    def announcements(self, agent: str) -> list[AnnounceData]:
        """What an agent has said of itself, also one that is not there now."""
        return [announce for announce in self._cards.values() if announce.agent == agent]

    def lease(self, agent: str, instance: str) -> LeaseData | None:
        """The lease of one instance."""
        return self._leases.get(f"inst.{agent}.{instance}")

    async def wait_for(self, condition: Callable[[list[AgentView]], bool]) -> list[AgentView]:
        """Wait until the views satisfy ``condition``; bound it with a timeout of your own."""
        while not condition(views := self.agents()):
            self._changed.clear()
            await self._changed.wait()
        return views

    def add_listener(self, listener: Callable[[DirectoryChange], None]) -> Callable[[], None]:
        """Call ``listener`` on every change; returns what removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def _load(self, bucket: KeyValue) -> None:
        # Both at once: the server looks up the one while this side reads the other.
        cards, leases = await asyncio.gather(
            bucket.entries(f"card.{self._whose}"), bucket.entries(f"inst.{self._whose}")
        )
        for entry in [*cards, *leases]:
            self._take(entry.key, entry.value)
        await asyncio.gather(*self._fetches.values())

    def _on_reconnect(self) -> None:
        # Changes were missed while the connection was down (reference: KV trap 3).
        if self._bucket is not None and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._reload(self._bucket))

    async def _reload(self, bucket: KeyValue) -> None:
        try:
            # Who is not in it is gone when its lease is over (REG-14): a server that lost its data,
            # or a node that is behind, lacks agents that are there.
            await self._load(bucket)
        except DragomanError as error:
            logger.warning("registry not read after a reconnect: %s", error)

    def _on_change(self, change: Change) -> None:
        if change.value is not None:
            self._take(change.key, change.value)
            return
        lease = self._leases.release(change.key)
        if lease is not None:
            self._tell("left", lease)

    def _take(self, key: str, value: bytes) -> None:
        digest = f"sha256:{key.rpartition('.')[2]}"
        if key.startswith("card.") and digest in self._cards:
            return  # cards never change (REG-2)
        try:
            data = read_entry(key, value)
        except ProtocolError as error:
            self._refuse(key, error)
            return
        if isinstance(data, LeaseData):
            self._hold(key, data)
        elif data is not None:
            self._cards[digest] = data
            self._agreed.clear()
            self._changed.set()

    def _refuse(self, key: str, error: ProtocolError) -> None:
        self.invalid_entries += 1
        # What is written again with every renewal, or read again, is told once.
        if key not in self._refused and len(self._refused) < MAXIMUM_REFUSED:
            self._refused.add(key)
            advice = f"; {HOW_TO_PRUNE}" if is_junk(error) else ""
            logger.warning("registry entry %s ignored: %s%s", key, error.message, advice)

    def _hold(self, key: str, lease: LeaseData) -> None:
        known = self._leases.get(key)
        until = lease.lease_seconds + LEASE_GRACE_SECONDS
        is_new = self._leases.renew(key, lease, until, self._clock())
        self._arm()
        if lease.card not in self._cards:
            self._fetch_card(lease)
        if is_new:
            self._tell("joined", lease)
        elif known is not None and known != lease:
            if known.card != lease.card:
                self._agreed.clear()
            self._tell("changed", lease)

    def _fetch_card(self, lease: LeaseData) -> None:
        if lease.card not in self._fetches and self._bucket is not None:
            fetch = asyncio.create_task(self._get_card(self._bucket, lease))
            self._fetches[lease.card] = fetch
            fetch.add_done_callback(lambda _: self._fetches.pop(lease.card, None))

    async def _get_card(self, bucket: KeyValue, lease: LeaseData) -> None:
        key = card_key(lease.agent, lease.card)
        try:
            entry = await bucket.get(key)
        except DragomanError as error:
            # The next renewal of the lease asks again.
            logger.warning("card %s not read: %s", key, error)
            return
        if entry is not None:
            self._take(key, entry.value)

    def _arm(self) -> None:
        soonest = self._leases.next_expiry()
        if soonest is None:
            return
        if self._timer is not None:
            if self._armed_for <= soonest:
                return
            # A lease that is shorter than those before it must not wait for them.
            self._timer.cancel()
        self._armed_for = soonest
        delay = max(0.0, soonest - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for _, lease in self._leases.expire(self._clock()):
            self._tell("lost", lease)
        self._arm()

    def _tell(self, kind: Literal["joined", "changed", "left", "lost"], lease: LeaseData) -> None:
        if kind != "changed":
            self._agreed.clear()
        self._changed.set()
        for listener in list(self._listeners):
            listener(DirectoryChange(kind=kind, lease=lease))
