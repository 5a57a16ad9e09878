"""Our durable task beside a bare JetStream loop, in one run on one machine.

Run: ``make bench``. The plain side has no log, no claim, no arbitration: one publish into a
stream, one waiting pull, a reply (latency); a pipelined publish, fetch(100), ack (throughput). Ours
is the whole durable task: timer, log, queue, worker, its end in the log, the caller told. Both on
file storage. Rounds alternate; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.echo import PAYLOAD, install_loop, latencies, machine, rate, report
from dragoman_bus.server import NatsServer

IN_FLIGHT = (16, 128)


async def serve_plain(url: str) -> None:
    """A waiting pull that answers to the inbox named in a header."""
    import nats
    import nats.errors

    client = await nats.connect(url)
    stream = client.jetstream()
    subscription = await stream.pull_subscribe("bare.task", durable="bare", stream="BARE")
    print("ready", flush=True)
    while True:
        try:
            for message in await subscription.fetch(1, timeout=5):
                await client.publish(message.headers["Answer"], message.data)
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
        print("ready", flush=True)
        await asyncio.Event().wait()


class Peer:
    """A serving process."""

    def __init__(self, kind: str, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.durable", "--serve", kind, "--url", url],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"


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


async def compare(url: str, rounds: int, count: int) -> dict[str, dict[str, float]]:
    """All rounds of both sides, alternating; the median of each figure."""
    import nats

    from dragoman_bus import connect
    from dragoman_bus.supervisor import supervising
    from dragoman_bus.transports.nats import connect_nats

    client = await nats.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="BARE", subjects=["bare.>"])
    collected: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    supervisor = await connect_nats(url)
    async with supervising(supervisor), connect(url) as bus:
        peers = [Peer(kind, url) for kind in ("plain", "ours")]

        async def plain() -> None:
            inbox = client.new_inbox()
            answer = await client.subscribe(inbox)
            await stream.publish("bare.task", PAYLOAD.encode(), headers={"Answer": inbox})
            await answer.next_msg(5)
            await answer.unsubscribe()

        async def ours() -> None:
            await bus.ask("echo", PAYLOAD, delivery="durable")

        try:
            await rate(plain, 100, 4)
            await rate(ours, 100, 4)
            for _ in range(rounds):
                for kind, ask in (("plain", plain), ("ours", ours)):
                    taken = await latencies(ask, count // 4)
                    collected[kind].append(
                        {"p50 ms": taken[len(taken) // 2], "p99 ms": taken[int(len(taken) * 0.99)]}
                    )
                loop = await plain_throughput(client, count * 4)
                for in_flight in IN_FLIGHT:
                    name = f"per second, {in_flight} in flight"
                    collected["plain"][-1][name] = loop
                    collected["ours"][-1][name] = await rate(ours, count, in_flight)
        finally:
            for peer in peers:
                peer.process.terminate()
                peer.process.wait()
    await client.close()
    await supervisor.close()
    return {
        kind: {name: statistics.median(one[name] for one in all_) for name in all_[0]}
        for kind, all_ in collected.items()
    }


def main() -> None:
    """Measure, print the table, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=["plain", "ours"])
    parser.add_argument("--url")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/durable.json"))
    options = parser.parse_args()
    install_loop()
    if options.serve:
        asyncio.run((serve_plain if options.serve == "plain" else serve_ours)(options.url))
        return
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        figures = asyncio.run(compare(server.url, options.rounds, options.count))
    report(figures)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "figures": figures}
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
