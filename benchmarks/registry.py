"""The registry with 1,000 and 10,000 agents, and what an agent costs the server.

The fleet is simulated: each agent has a name, a card and a lease of its own, written and
renewed by the same keeper that real agents have, but hundreds of keepers share a process and
a connection. Snapshots are taken by a fresh Directory while the fleet renews; beside it, nats-py's
own watcher reads the same bucket, without looking into what it reads. Both parse on this machine's
cores, which server and fleet share.

A death is a SIGKILL of a process with 20 agents. How late it was noticed counts from the moment at
which the lease of each, by its last renewal seen here, had ended.

Memory per agent is the growth of nats-server's resident memory, garbage that Go has not collected
included, divided by the agents. "Real agents" are served instances with a connection each, all of
one skill; beside them stand connections that do nothing. Supervised, each name has its queue.
Renewals a second come from two Python processes that do nothing else, so the server's CPU per
renewal says more than the rate.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.fleets import LEASE, RENEWING_SECONDS, fleet
from benchmarks.measuring import (
    Figures,
    alternate,
    install_loop,
    keep,
    machine,
    own_cpu,
    parser,
    percentile,
    process_cpu,
    resident_bytes,
)
from dragoman_bus.protocol.subjects import REGISTRY_BUCKET
from dragoman_bus.registry import Directory, DirectoryChange
from dragoman_bus.server import NatsServer
from dragoman_bus.supervisor import supervising
from dragoman_bus.transports.nats import connect_nats
from dragoman_bus.transports.port import Change

SIZES = (1_000, 10_000)
VICTIMS = 20
REAL = 200
FLEETS = 2
SNAPSHOT, LATE, MEMORY = "snapshot s", "a death noticed, s after its lease", "server KiB per agent"
GOALS = {SNAPSHOT: "< 1", LATE: "< 3", MEMORY: "< 60"}


@asynccontextmanager
async def following(url: str) -> AsyncIterator[Directory]:
    """A fresh directory on a fresh connection, with its snapshot taken."""
    transport = await connect_nats(url)
    directory = Directory(transport)
    try:
        await directory.start()
        yield directory
    finally:
        await directory.stop()
        await transport.close()


async def snapshot(server: NatsServer, read: Callable[[], Awaitable[int]], count: int) -> Figures:
    """Seconds, and seconds of CPU, until ``read`` knows of at least ``count``."""
    assert server.process_id is not None
    broker, own = process_cpu(server.process_id), own_cpu()
    started = time.perf_counter()
    found = await read()
    figures = {
        SNAPSHOT: time.perf_counter() - started,
        "snapshot, the reader's CPU s": own_cpu() - own,
        "snapshot, the server's CPU s": process_cpu(server.process_id) - broker,
    }
    if found < count:
        raise RuntimeError("this machine is too busy for the fleet to renew in time: --lease 60")
    return figures


async def our_snapshot(server: NatsServer, count: int) -> Figures:
    """A fresh directory reads, checks and holds every card and lease."""
    transport = await connect_nats(server.url)
    directory = Directory(transport)

    async def read() -> int:
        await directory.start()
        return len(directory.agents())

    try:
        return await snapshot(server, read, count)
    finally:
        await directory.stop()
        await transport.close()


async def plain_snapshot(server: NatsServer, count: int) -> Figures:
    """nats-py's own watcher reads every key, and looks into none."""
    import nats

    client = await nats.connect(server.url)
    bucket = await client.jetstream().key_value(REGISTRY_BUCKET)

    async def read() -> int:
        watcher: Any = await bucket.watchall()
        keys = 0
        async for entry in watcher:
            if entry is None:
                break
            keys += 1
        await watcher.stop()
        return keys // 2

    try:
        return await snapshot(server, read, count)
    finally:
        await client.close()


async def deaths(url: str, directory: Directory) -> list[float]:
    """Seconds after the end of its lease at which each victim of a kill was noticed."""
    transport = await connect_nats(url)
    bucket = await transport.key_value(REGISTRY_BUCKET)
    renewed: dict[str, float] = {}
    lost: dict[str, float] = {}
    all_lost = asyncio.Event()

    def on_change(change: Change) -> None:
        if change.value is not None:
            renewed[change.key.split(".")[1]] = time.perf_counter()

    def on_directory(change: DirectoryChange) -> None:
        if change.kind in ("lost", "left") and change.lease.agent.startswith("victim-"):
            lost.setdefault(change.lease.agent, time.perf_counter())
            if len(lost) == VICTIMS:
                all_lost.set()

    watch = await bucket.watch("inst.>", on_change)
    remove = directory.add_listener(on_directory)
    victims = await asyncio.to_thread(fleet, "fleet", url, "victim", VICTIMS)
    await asyncio.sleep(LEASE / 2)
    victims.kill()
    await asyncio.wait_for(all_lost.wait(), 3 * LEASE)
    remove()
    await watch.unsubscribe()
    await transport.close()
    return sorted(moment - renewed[agent] - LEASE for agent, moment in lost.items())


async def memory_of(server: NatsServer) -> float:
    """Resident KiB of the server: the median over a lease, since Go collects now and then."""
    assert server.process_id is not None
    seen = []
    for _ in range(int(LEASE)):
        await asyncio.sleep(1)
        seen.append(resident_bytes(server.process_id) / 1024)
    return statistics.median(seen)


async def with_fleet(count: int, lease: float, rounds: int) -> dict[str, Figures]:
    """All figures of a simulated fleet of one size, on a server of its own."""
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        async with following(server.url) as directory:
            before = await memory_of(server)
            with ExitStack() as stack:
                for number in range(FLEETS):
                    share = count // FLEETS
                    part = fleet("fleet", server.url, f"fleet{number}", share, lease=lease)
                    stack.enter_context(part)
                await directory.wait_for(lambda agents: len(agents) >= count)
                used, started = own_cpu(), time.perf_counter()
                after = await memory_of(server)
                reading = (own_cpu() - used) / (time.perf_counter() - started)
                snapshots = await alternate(
                    {
                        "plain": lambda: plain_snapshot(server, count),
                        "ours": lambda: our_snapshot(server, count),
                    },
                    rounds,
                )
                late = await deaths(server.url, directory)
    ours = snapshots["ours"] | {
        LATE: percentile(late, 1.0),
        MEMORY: (after - before) / count,
        "a follower's CPU, % of a core": reading * 100,
    }
    return {"plain": snapshots["plain"], "ours": ours}


async def connected(kind: str, *, supervised: bool = False) -> Figures:
    """What clients with a connection each cost the server: bare ones, or served agents."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(NatsServer(Path(folder)))
        assert server.process_id is not None
        directory = await stack.enter_async_context(following(server.url))
        if supervised:
            transport = await connect_nats(server.url)
            stack.push_async_callback(transport.close)
            await stack.enter_async_context(supervising(transport))
        # Streams, bucket and the queues of the skill are made once, by whoever comes first.
        stack.enter_context(fleet("real", server.url, "first", 1))
        before = await memory_of(server)
        for number in range(4):
            stack.enter_context(fleet(kind, server.url, f"{kind}{number}", REAL // 4))
        if kind == "real":
            await directory.wait_for(lambda agents: len(agents) > REAL)
        after = await memory_of(server)
        cpu, started = process_cpu(server.process_id), time.perf_counter()
        await asyncio.sleep(LEASE)
        busy = process_cpu(server.process_id) - cpu
        idle = busy / (time.perf_counter() - started) / REAL
    return {MEMORY: (after - before) / REAL, "server CPU us per agent and second": idle * 1e6}


async def renewals() -> Figures:
    """As many renewals as two processes can make."""
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        assert server.process_id is not None
        with (
            fleet("renewers", server.url, "one", 500) as one,
            fleet("renewers", server.url, "two", 500) as two,
        ):
            cpu = process_cpu(server.process_id)
            for peer in (one, two):
                peer.say("renew")
            told = [await asyncio.to_thread(peer.hear) for peer in (one, two)]
            busy = process_cpu(server.process_id) - cpu
    count = sum(int(words[1]) for words in told)
    return {
        "renewals per second": count / RENEWING_SECONDS,
        "server CPU us per renewal": busy / count * 1e6,
    }


def show(title: str, figures: Figures) -> None:
    """One block of the table."""
    print(title)
    for name, value in figures.items():
        goal = f"   goal {GOALS[name]}" if name in GOALS else ""
        print(f"  {name:40}{value:12,.3f}{goal}")


async def compare(sizes: list[int], lease: float, rounds: int) -> dict[str, Figures]:
    """Everything, one after the other."""
    found: dict[str, Figures] = {}

    def tell(title: str, figures: Figures) -> None:
        found[title] = figures
        show(title, figures)

    for size in sizes:
        for kind, figures in (await with_fleet(size, lease, rounds)).items():
            who = "nats-py's watcher" if kind == "plain" else "Dragoman"
            tell(f"{size:,} agents, {who}", figures)
    tell(f"{REAL} bare connections of nats-py", await connected("bare"))
    tell(f"{REAL} real agents", await connected("real"))
    tell(f"{REAL} real agents, supervised", await connected("real", supervised=True))
    tell("renewals without pause", await renewals())
    return found


def main() -> None:
    """Measure, print the table, and keep the figures."""
    options = parser(__doc__, "registry", rounds=7)
    options.add_argument(
        "--sizes", type=int, nargs="+", default=list(SIZES), help="default: 1000 10000"
    )
    options.add_argument(
        "--lease",
        type=float,
        default=LEASE,
        help="of the fleet, in seconds; longer where it cannot renew in time; default: 10",
    )
    given = options.parse_args()
    install_loop()
    host = machine() | {"leases of the fleet": f"{given.lease:g} s"}
    figures = asyncio.run(compare(given.sizes, given.lease, given.rounds))
    keep(given.output, host, figures, goals=GOALS)


if __name__ == "__main__":
    main()
