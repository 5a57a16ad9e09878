"""Our durable task beside a bare JetStream loop, in one run on one machine.

Run: ``make bench``. The plain side has no log, no claim, no arbitration: one publish into a
stream, one waiting pull, a reply (latency); a pipelined publish, fetch(100), ack (throughput). Ours
is the whole durable task: timer, log, queue, worker, its end in the log, the caller told, and a
supervisor beside it. Both on file storage. Rounds alternate; medians are compared. CPU is counted
in all processes of a side, since on a busy machine times say little.
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
    own_cpu,
    parser,
    percentile,
    process_cpu,
    rate,
    ready,
    report,
)
from dragoman_bus.server import NatsServer

IN_FLIGHT = (16, 128)
CLIENTS, SERVER = "CPU us per task, clients", "CPU us per task, NATS server"
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


async def serve_supervisor(url: str) -> None:
    """What every bus with durable tasks has once."""
    from dragoman_bus.supervisor import supervising
    from dragoman_bus.transports.nats import connect_nats

    async with supervising(await connect_nats(url)):
        ready()
        await asyncio.Event().wait()


SERVE = {"plain": serve_plain, "ours": serve_ours, "supervisor": serve_supervisor}


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


async def compare(server: NatsServer, rounds: int, count: int) -> dict[str, Figures]:
    """All rounds of both sides; the median of each figure."""
    import nats

    from dragoman_bus import connect

    url = server.url
    client = await nats.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="BARE", subjects=["bare.>"])

    async def plain() -> None:
        inbox = client.new_inbox()
        answer = await client.subscribe(inbox)
        await stream.publish("bare.task", PAYLOAD.encode(), headers={"Answer": inbox})
        await answer.next_msg(5)
        await answer.unsubscribe()

    async def measure_plain() -> Figures:
        figures = _latency(await latencies(plain, count // 4))
        spent = Spent(server)
        loop = await plain_throughput(client, count * 4)
        figures |= {_rate_name(many): loop for many in IN_FLIGHT}
        return figures | spent.since(count * 4)

    try:
        with (
            Peer("benchmarks.durable", "--serve", "supervisor", "--url", url) as supervisor,
            Peer("benchmarks.durable", "--serve", "plain", "--url", url),
            Peer("benchmarks.durable", "--serve", "ours", "--url", url) as agent,
        ):
            async with connect(url) as bus:

                async def ours() -> None:
                    await bus.ask("echo", PAYLOAD, delivery="durable")

                async def measure_ours() -> Figures:
                    figures = _latency(await latencies(ours, count // 4))
                    for many in IN_FLIGHT:
                        spent = Spent(server, supervisor, agent)
                        figures[_rate_name(many)] = await rate(ours, count, many)
                    return figures | spent.since(count)

                await rate(plain, 100, 4)
                await rate(ours, 100, 4)
                return await alternate({"plain": measure_plain, "ours": measure_ours}, rounds)
    finally:
        await client.close()


class Spent:
    """CPU of one side since now: of this process, its peers, and the server."""

    def __init__(self, server: NatsServer, *peers: Peer) -> None:
        self._server, self._peers = server, peers
        self._before = self._now()

    def since(self, count: int) -> Figures:
        """Microseconds for each of ``count`` tasks."""
        taken = [now - before for now, before in zip(self._now(), self._before, strict=True)]
        clients, server = (seconds / count * 1e6 for seconds in taken)
        return {CLIENTS: clients, SERVER: server}

    def _now(self) -> tuple[float, float]:
        clients = own_cpu() + sum(peer.cpu() for peer in self._peers)
        return clients, process_cpu(self._server.process_id or 0)


def _latency(taken: list[float]) -> Figures:
    return {"p50 ms": percentile(taken, 0.5), "p99 ms": percentile(taken, 0.99)}


def _rate_name(in_flight: int) -> str:
    return f"per second, {in_flight} in flight"


def main() -> None:
    """Measure, print the table, and keep the figures."""
    options = parser(__doc__, "durable", rounds=5)
    options.add_argument("--count", type=int, default=2000, help="tasks a round; default: 2000")
    options.add_argument("--serve", choices=list(SERVE), help=argparse.SUPPRESS)
    options.add_argument("--url", help=argparse.SUPPRESS)
    given = options.parse_args()
    install_loop()
    if given.serve:
        asyncio.run(SERVE[given.serve](given.url))
        return
    host = machine()
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        figures = asyncio.run(compare(server, given.rounds, given.count))
    report(figures, SIDES, GOALS)
    keep(given.output, host, figures, names=SIDES, goals=GOALS)


if __name__ == "__main__":
    main()
