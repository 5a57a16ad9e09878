"""Our direct task beside a plain nats-py request and reply, in one run on one machine.

The plain side is a request/reply echo of 1 KiB without validation, and a stream of published
chunks; ours is a task with typed input and output, validated at both ends. Both agents have a
process of their own, and the server is a third. Rounds alternate; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.echo_agent import CHUNK, serve_echo
from benchmarks.measuring import (
    PAYLOAD,
    Ask,
    Figures,
    Peer,
    alternate,
    install_loop,
    keep,
    latencies,
    machine,
    own_cpu,
    parser,
    percentile,
    rate,
    ready,
    report,
)
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent
from dragoman_bus.server import NatsServer

IN_FLIGHT = (1, 16, 128)
CHUNKS = 200
SIDES = {"plain": "plain nats-py", "ours": "Dragoman"}
FIRST = "first chunk p50 ms"
GOALS = {
    "p50 ms": "<= 1.15",
    "per second, 128 in flight": ">= 1",
    FIRST: "<= 1.2",
    "chunks per second": ">= 0.8",
}


async def serve_plain(url: str) -> None:
    """The other side of the plain measurement: an echo, and a stream of chunks."""
    import nats

    client = await nats.connect(url)

    async def echo(message: Any) -> None:
        await message.respond(message.data)

    async def stream(message: Any) -> None:
        for _ in range(CHUNKS):
            await client.publish(message.reply, CHUNK.encode())

    await client.subscribe("plain.echo", queue="q", cb=echo)
    await client.subscribe("plain.stream", queue="q", cb=stream)
    await client.flush()
    ready()
    await asyncio.Event().wait()


async def serve_ours(url: str) -> None:
    """The same as an agent."""
    await serve_echo(url, concurrency=512, chunks=CHUNKS)


async def measure(ask: Ask, peer: Peer, count: int) -> Figures:
    """One round of one side."""
    taken = await latencies(ask, count // 4)
    result = {"p50 ms": percentile(taken, 0.5), "p99 ms": percentile(taken, 0.99)}
    for in_flight in IN_FLIGHT:
        before, own = peer.cpu(), own_cpu()
        result[f"per second, {in_flight} in flight"] = await rate(ask, count, in_flight)
        if in_flight == IN_FLIGHT[-1]:
            result["caller CPU us"] = (own_cpu() - own) / count * 1e6
            result["server CPU us"] = (peer.cpu() - before) / count * 1e6
    return result


async def stream_rate(stream: Ask, rounds: int) -> float:
    """Chunks a second over whole streams, one after another."""
    started = time.perf_counter()
    for _ in range(rounds):
        await stream()
    return rounds * CHUNKS / (time.perf_counter() - started)


async def compare(url: str, rounds: int, count: int) -> dict[str, Figures]:
    """All rounds of both sides; the median of each figure."""
    import nats

    from dragoman_bus import connect

    client = await nats.connect(url)
    try:
        with (
            Peer("benchmarks.echo", "--serve", "plain", "--url", url) as echo,
            Peer("benchmarks.echo", "--serve", "ours", "--url", url) as agent,
        ):
            async with connect(url) as bus:
                contract = (await bus.discover(agent="bench"))[0].contract("echo")

                async def plain() -> object:
                    return await client.request("plain.echo", PAYLOAD.encode(), timeout=5)

                async def ours() -> object:
                    return await bus.ask("echo", PAYLOAD, agent="bench", contract=contract)

                async def plain_stream() -> None:
                    inbox = client.new_inbox()
                    subscription = await client.subscribe(inbox)
                    await client.publish("plain.stream", b"", reply=inbox)
                    for _ in range(CHUNKS):
                        await subscription.next_msg(5)
                    await subscription.unsubscribe()

                async def our_stream() -> float:
                    started, first = time.perf_counter(), 0.0
                    task = await bus.submit("stream", "go", agent="bench")
                    async for update in task:
                        if not first and isinstance(update, TaskArtifactUpdateEvent):
                            first = time.perf_counter() - started
                    await task.result()
                    return first * 1000

                async def measure_plain() -> Figures:
                    figures = await measure(plain, echo, count)
                    # The plain side's first chunk comes when any answer would.
                    figures[FIRST] = figures["p50 ms"]
                    return figures | {"chunks per second": await stream_rate(plain_stream, 10)}

                async def measure_ours() -> Figures:
                    figures = await measure(ours, agent, count)
                    figures[FIRST] = statistics.median([await our_stream() for _ in range(20)])
                    return figures | {"chunks per second": await stream_rate(our_stream, 10)}

                for ask, stream in ((plain, plain_stream), (ours, our_stream)):
                    await rate(ask, count // 4, 16)
                    await stream()
                return await alternate({"plain": measure_plain, "ours": measure_ours}, rounds)
    finally:
        await client.close()


def main() -> None:
    """Measure, print the table, and keep the figures."""
    options = parser(__doc__, "echo", rounds=5)
    options.add_argument("--count", type=int, default=4000, help="tasks a round; default: 4000")
    options.add_argument("--serve", choices=list(SIDES), help=argparse.SUPPRESS)
    options.add_argument("--url", help=argparse.SUPPRESS)
    given = options.parse_args()
    install_loop()
    if given.serve:
        serve = serve_plain if given.serve == "plain" else serve_ours
        asyncio.run(serve(given.url))
        return
    host = machine()
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        figures = asyncio.run(compare(server.url, given.rounds, given.count))
    report(figures, SIDES, GOALS)
    keep(given.output, host, figures, names=SIDES, goals=GOALS)


if __name__ == "__main__":
    main()
