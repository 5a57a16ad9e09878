"""Fleets of agents for the benchmark of the registry, in processes of their own.

A simulated agent has a name, a card and a lease of its own, and the keeper that real agents have;
hundreds of them share a process and a few connections. Real ones are served.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from benchmarks.measuring import Peer, install_loop, ready
from dragoman_agents import Agent, serving
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.payloads import AnnounceData, InstanceState, LeaseData
from dragoman_bus.registry import LeaseKeeper
from dragoman_bus.registry.keeper import card_digest
from dragoman_bus.transports.nats import connect_nats

__all__ = ["LEASE", "RENEWING_SECONDS", "fleet"]

LEASE = 10.0
"""Seconds, as the specification recommends."""
CONNECTIONS = 4
AT_ONCE = 64
RENEWING_SECONDS = 5.0


# -- fleets -----------------------------------------------------------------------------------


def template() -> Agent:
    """An agent like many: one skill with a schema."""
    agent = Agent("fleet", description="One of a fleet that was made up to be counted")

    @agent.skill(tags=["text"])
    async def shorten(text: str, words: int = 12) -> str:
        """Keeps the first words of a text."""
        return " ".join(text.split()[:words])

    return agent


class Member:
    """One simulated agent: a card, a lease, and the keeper that real agents have."""

    def __init__(self, transport: Any, announce: AnnounceData, name: str, seconds: float) -> None:
        card = msgspec.structs.replace(announce.card, name=name)
        own = msgspec.structs.replace(announce, agent=name, card=card)
        sender = Sender(agent_source(name, f"{name}-1"), time.time, new_identifier)
        lease = LeaseData(
            agent=name,
            instance=f"{name}-1",
            card=card_digest(own),
            state=InstanceState.READY,
            lease_seconds=seconds,
            slots=16,
            running=0,
            queued=0,
            started_at=sender.now(),
        )
        self.keeper = LeaseKeeper(transport, own, lambda: lease, sender)


async def start_members(url: str, prefix: str, count: int, lease: float) -> list[Member]:
    """All of them announced, spread over a few connections."""
    announce = template().announcement()
    transports = [await connect_nats(url) for _ in range(CONNECTIONS)]
    members = [
        Member(transports[number % CONNECTIONS], announce, f"{prefix}-{number}", lease)
        for number in range(count)
    ]
    waiting = iter(members)

    async def start() -> None:
        for member in waiting:
            await member.keeper.start()

    await asyncio.gather(*(start() for _ in range(AT_ONCE)))
    return members


async def serve_fleet(url: str, prefix: str, count: int, lease: float) -> None:
    """A fleet that renews its leases until it is ended."""
    await start_members(url, prefix, count, lease)
    ready()
    await asyncio.Event().wait()


async def serve_renewers(url: str, prefix: str, count: int, lease: float) -> None:
    """A fleet that at a word renews without pause, and says how often it did."""
    members = await start_members(url, prefix, count, lease)
    ready()
    await asyncio.to_thread(sys.stdin.readline)
    renewed = 0
    until = time.perf_counter() + RENEWING_SECONDS

    async def renew(own: list[Member]) -> None:
        nonlocal renewed
        while time.perf_counter() < until:
            for member in own:
                await member.keeper.update()
                renewed += 1

    await asyncio.gather(*(renew(members[start::AT_ONCE]) for start in range(AT_ONCE)))
    print("renewed", renewed, flush=True)
    await asyncio.Event().wait()


async def serve_real(url: str, prefix: str, count: int, lease: float) -> None:
    """Real agents: each served with a connection of its own, all with one skill."""
    async with AsyncExitStack() as stack:
        for number in range(count):
            agent = template()
            agent.name = f"{prefix}-{number}"
            await stack.enter_async_context(
                serving(agent, await connect_nats(url), lease_seconds=lease)
            )
        ready()
        await asyncio.Event().wait()


async def serve_bare(url: str, prefix: str, count: int, lease: float) -> None:
    """Connections of nats-py that do nothing."""
    import nats

    clients = [await nats.connect(url, name=f"{prefix}-{number}") for number in range(count)]
    ready(len(clients))
    await asyncio.Event().wait()


SERVE = {"bare": serve_bare, "fleet": serve_fleet, "renewers": serve_renewers, "real": serve_real}


def fleet(kind: str, url: str, prefix: str, count: int, *, lease: float = LEASE) -> Peer:
    """A process of one of the kinds above, ready."""
    return Peer("benchmarks.fleets", kind, url, prefix, count, lease)


def main() -> None:
    """Serve until ended."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kind", choices=list(SERVE))
    options.add_argument("url")
    options.add_argument("prefix")
    options.add_argument("count", type=int)
    options.add_argument("lease", type=float)
    given = options.parse_args()
    install_loop()
    asyncio.run(SERVE[given.kind](given.url, given.prefix, given.count, given.lease))


if __name__ == "__main__":
    main()
