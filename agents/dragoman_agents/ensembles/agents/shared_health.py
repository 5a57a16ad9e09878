"""Which members cool down, known to all ensembles and replicas on the bus.

Spec: spec/ensembles.md, failover. A cooldown is a document that expires with it; whoever starts
reads those there are. Latencies and rates of success are each process's own measurements.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_agents.ensembles.agents.store import Store, quietly
from dragoman_agents.ensembles.health import LASTING, Health, HealthBook
from dragoman_bus.client import Bus
from dragoman_bus.protocol.timestamps import parse_timestamp

__all__ = ["Cooldown", "SharedHealth"]

PREFIX = "health."


class Cooldown(Struct):
    """A member that is to be left alone.

    Attributes:
        until: Unix seconds.
        code: Why.
        failures: How many there were in a row.
        by: Which ensemble saw it.
        since: When it was seen, Unix seconds.
    """

    until: float = 0.0
    code: str = ""
    failures: int = 0
    by: str = ""
    since: float = 0.0


class SharedHealth:
    """A ``HealthBook`` whose cooldowns are those of everybody.

    Args:
        owner: The ensemble's name.
    """

    def __init__(self, owner: str) -> None:
        self.book = HealthBook()
        self._owner = owner
        self._store: Store | None = None
        self._told: dict[str, float] = {}
        self._since: dict[str, float] = {}
        self._forget: Callable[[], Any] | None = None
        self._background: set[asyncio.Future[None]] = set()

    async def start(self, bus: Bus) -> None:
        """Take over what others know, and follow it."""
        if self._store is None:
            self._store = await Store.open(bus.transport)
        if self._store is not None and self._forget is None:
            self._forget = await self._store.watch(f"{PREFIX}>", Cooldown, self._heard)

    async def stop(self) -> None:
        """Follow no longer."""
        if self._background:
            await asyncio.wait(self._background, timeout=1.0)
        if self._forget is not None:
            await quietly(self._forget())
        self._store = self._forget = None

    def tell(self, member: str) -> None:
        """Tell the others what this process has just learned of a member."""
        now = time.monotonic()
        left = self.book.recovers_in(member, now)
        entry = self.book.of(member)
        key = f"{PREFIX}{member}"
        if left > 0 and entry.cool_until > self._told.get(member, 0.0):
            self._told[member] = entry.cool_until
            since = self._since[member] = time.time()
            cooldown = Cooldown(since + left, entry.code or "", entry.failures, self._owner, since)
            if self._store is not None:
                self._soon(self._store.put(key, cooldown, ttl=left))
        elif left == 0 and self._told.pop(member, None) is not None and self._store is not None:
            self._soon(self._store.delete(key))

    def look_at(self, members: Iterable[MemberView]) -> None:
        """End cooldowns that only a correction could end, of members that were started since."""
        for member in members:
            entry = self.book.members.get(member.name)
            since = self._since.get(member.name)
            if entry is None or since is None or entry.code not in LASTING:
                continue
            if member.started_at and parse_timestamp(member.started_at) > since:
                # What it failed in before says nothing of it as it is now.
                self.book.members[member.name] = Health(latencies=entry.latencies)
                self.tell(member.name)

    def _heard(self, key: str, cooldown: Cooldown | None) -> None:
        member = key.removeprefix(PREFIX)
        entry = self.book.of(member)
        if cooldown is None:
            entry.cool_until, entry.failures, entry.code = 0.0, 0, None
            self._told.pop(member, None)
            self._since.pop(member, None)
            return
        until = time.monotonic() + cooldown.until - time.time()
        entry.cool_until = max(entry.cool_until, until)
        entry.failures = max(entry.failures, cooldown.failures)
        entry.code = cooldown.code
        self._since[member] = cooldown.since
        self._told[member] = entry.cool_until

    def _soon(self, work: Any) -> None:
        task = asyncio.ensure_future(quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
