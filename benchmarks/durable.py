"""Our durable task beside a bare JetStream loop, in one run on one machine.

Run: ``make bench``. The plain side has no log, no claim, no arbitration: one publish into a
stream, one waiting pull, a reply (latency); a pipelined publish, fetch(100), ack (throughput). Ours
is the whole durable task: timer, log, queue, worker, its end in the log, the caller told. Both on
file storage. Rounds alternate; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    PAYLOAD,
    Figures,
    Peer,
    alternate,
    install_loop,
    keep,
    latencies,
    machine,
    parser,
    percentile,
    rate,
    ready,
    report,
)
from dragoman_bus.server import NatsServer

IN_FLIGHT = (16, 128)
SIDES = {"plain": "bare JetStream", "ours": "Dragoman"}
GOALS = {"p50 ms": "<= 1.5", "per second, 128 in flight": ">= 0.5"}


async def serve_plain(url: str) -> None:
    """A waiting pull that answers to the inbox named in a header."""
    import nats
    import nats.errors

    client = await nats.connect(url)
    stream = client.jetstream()
    subscription = await stream.pull_subscribe("bare.task", durable="bare", stream="BARE")
    ready()
    while True:
        try:
            for message in await subscription.fetch(1, timeout=5):
                await client.publish((message.headers or {})["Answer"], message.data)
                await message.ack()
        except nats.errors.TimeoutError:
            continue


async def serve_ours(url: str) -> None:
    """The same as an agent."""
    from dragoman_agents import Agent, serving
    from dragoman_bus.transports.nats import connect_nats

    agent = Agent("bench", concurrency=128)

    @agent.skill
    async def echo(text: str) -> str:
        return text

    async with serving(agent, await connect_nats(url)):
        ready()
        await asyncio.Event().wait()


async def plain_throughput(client: Any, count: int) -> float:
    """Messages a second: published ahead, fetched by hundreds, acknowledged."""
    stream = client.jetstream(publish_async_max_pending=4096)
    subscription = await stream.pull_subscribe("bare.load", durable="load", stream="BARE")
    started = time.perf_counter()

    async def publish() -> None:
        for _ in range(count):
            await stream.publish_async("bare.load", PAYLOAD.encode(), wait_stall=10)
        await stream.publish_async_completed()

    publishing = asyncio.create_task(publish())
    done = 0
    while done < count:
        for message in await subscription.fetch(100, timeout=5):
            await message.ack()
            done += 1
    await publishing
    return count / (time.perf_counter() - started)


async def compare(url: str, rounds: int, count: int) -> dict[str, Figures]:
    """All rounds of both sides; the median of each figure."""
    import nats

    from dragoman_bus import connect
    from dragoman_bus.supervisor import supervising
    from dragoman_bus.transports.nats import connect_nats

    client = await nats.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="BARE", subjects=["bare.>"])
    supervisor = await connect_nats(url)

    async def plain() -> None:
        inbox = client.new_inbox()
        answer = await client.subscribe(inbox)
        await stream.publish("bare.task", PAYLOAD.encode(), headers={"Answer": inbox})
        await answer.next_msg(5)
        await answer.unsubscribe()

    async def measure_plain() -> Figures:
        taken = await latencies(plain, count // 4)
        loop = await plain_throughput(client, count * 4)
        return _figures(taken, dict.fromkeys(IN_FLIGHT, loop))

    try:
        async with supervising(supervisor), connect(url) as bus:

            async def ours() -> None:
                await bus.ask("echo", PAYLOAD, delivery="durable")

            async def measure_ours() -> Figures:
                taken = await latencies(ours, count // 4)
                return _figures(taken, {many: await rate(ours, count, many) for many in IN_FLIGHT})

            with (
                Peer("benchmarks.durable", "--serve", "plain", "--url", url),
                Peer("benchmarks.durable", "--serve", "ours", "--url", url),
            ):
                await rate(plain, 100, 4)
                await rate(ours, 100, 4)
                return await alternate({"plain": measure_plain, "ours": measure_ours}, rounds)
    finally:
        await client.close()
        await supervisor.close()


def _figures(taken: list[float], rates: dict[int, float]) -> Figures:
    return {"p50 ms": percentile(taken, 0.5), "p99 ms": percentile(taken, 0.99)} | {
        f"per second, {many} in flight": value for many, value in rates.items()
    }


def main() -> None:
    """Measure, print the table, and keep the figures."""
    options = parser(__doc__, "durable", rounds=5)
    options.add_argument("--count", type=int, default=2000, help="tasks a round; default: 2000")
    options.add_argument("--serve", choices=list(SIDES), help=argparse.SUPPRESS)
    options.add_argument("--url", help=argparse.SUPPRESS)
    given = options.parse_args()
    install_loop()
    if given.serve:
        asyncio.run((serve_plain if given.serve == "plain" else serve_ours)(given.url))
        return
    host = machine()
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        figures = asyncio.run(compare(server.url, given.rounds, given.count))
    report(figures, SIDES, GOALS)
    keep(given.output, host, figures)


if __name__ == "__main__":
    main()
