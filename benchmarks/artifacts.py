"""Large contents: stored and read as artifacts, beside nats-py's own object store.

Both sides use an object store on one server and chunks of 128 KiB. Artifacts are named by their
digest, are verified when they are read, and are read by batches of direct gets; nats-py reads
through a consumer. Every round stores new bytes.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
from nats.js.object_store import ObjectStore

from benchmarks.measuring import Figures, alternate, install_loop, keep, machine, parser, report
from dragoman_bus.artifacts import ArtifactStore
from dragoman_bus.durable import DurableSettings, make_streams
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import connect_nats

MEBIBYTE = 1024 * 1024
NAMES = {"plain": "nats-py", "ours": "Dragoman"}
GOALS = {"read MiB/s": ">= 1"}


async def timed(work: Awaitable[object], mebibytes: int) -> float:
    """Mebibytes a second."""
    started = time.perf_counter()
    await work
    return mebibytes / (time.perf_counter() - started)


async def ours(store: ArtifactStore, mebibytes: int) -> Figures:
    """One content stored and read as an artifact."""
    content = os.urandom(mebibytes * MEBIBYTE)
    stored = await timed(store.put(content), mebibytes)
    reference = await store.put(content)
    return {"stored MiB/s": stored, "read MiB/s": await timed(store.get(reference), mebibytes)}


async def plain(store: ObjectStore, mebibytes: int) -> Figures:
    """One content stored and read as an object of nats-py."""
    content = os.urandom(mebibytes * MEBIBYTE)
    name = content[:16].hex()
    stored = await timed(store.put(name, content), mebibytes)
    return {"stored MiB/s": stored, "read MiB/s": await timed(store.get(name), mebibytes)}


async def measure(mebibytes: int, rounds: int) -> dict[str, Figures]:
    """All rounds on a server of their own."""
    with tempfile.TemporaryDirectory() as place, NatsServer(Path(place)) as server:
        transport = await connect_nats(server.url)
        client = await nats.connect(server.url)
        try:
            await make_streams(transport.streams(), DurableSettings())
            objects = await client.jetstream().create_object_store("plain")
            sides: dict[str, Callable[[], Awaitable[Figures]]] = {
                "plain": lambda: plain(objects, mebibytes),
                "ours": lambda: ours(ArtifactStore(transport), mebibytes),
            }
            return await alternate(sides, rounds)
        finally:
            await client.close()
            await transport.close()


def main() -> None:
    """Measure and tell."""
    options = parser(__doc__, "artifacts", rounds=5)
    options.add_argument("--mebibytes", type=int, default=64, help="default: %(default)s")
    arguments = options.parse_args()
    install_loop()
    host = machine()
    figures = asyncio.run(measure(arguments.mebibytes, arguments.rounds))
    report(figures, NAMES, GOALS)
    keep(arguments.output, host, figures, names=NAMES, goals=GOALS)


if __name__ == "__main__":
    main()
