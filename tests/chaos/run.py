"""One chaos run: tasks, faults, healing, and the checker's report.

    python -m tests.chaos.run --seed 1 --faults 300

The seed decides orders and faults; what the machine does in between it cannot decide.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from dragoman_bus.client import Bus
from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.streams import Stored
from tests.chaos.actors import ACK_WAIT_SECONDS, Actor, accepted_in
from tests.chaos.checker import Promise, Report, check
from tests.chaos.proxy import Proxy
from tests.chaos.stage import ClusterStage, ServerStage, Stage
from tests.chaos.workload import Order, make_order

__all__ = ["Outcome", "Settings", "run"]

TERMINAL = {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much happens."""

    seed: int = 1
    faults: int = 300
    tasks: int = 600
    workers: int = 3
    nodes: int = 1
    gap: float = 0.25
    settle_seconds: float = 120.0
    history: Path | None = None


class Outcome(msgspec.Struct, kw_only=True):
    """What a run gave."""

    settings: Settings
    report: Report
    faults: dict[str, int]
    seconds: float


class Run:
    """The processes of a run, and what is done to them."""

    def __init__(self, settings: Settings, stage: Stage, directory: Path) -> None:
        self.settings = settings
        self.stage = stage
        self.dice = random.Random(settings.seed)
        self.orders = [make_order(number, settings.seed) for number in range(settings.tasks)]
        self.journal = directory / "accepted"
        self.done: Counter[str] = Counter()
        self.canceled: set[str] = set()
        self.proxies: list[Proxy] = []
        self.actors: list[Actor] = []
        self._healing: set[asyncio.Task[None]] = set()
        self._stage_lock = asyncio.Lock()

    async def start(self) -> None:
        """Start everything behind a proxy of its own."""
        pace = self.settings.faults * self.settings.gap / max(1, len(self.orders)) / 2
        roles: list[tuple[object, ...]] = [("worker",)] * self.settings.workers
        roles += [("supervisor", self.stage.replicas)] * 2
        roles += [("caller", self.journal, self.orders, pace)]
        for number, (role, *arguments) in enumerate(roles):
            addresses = self.stage.addresses
            proxy = Proxy(addresses[number % len(addresses)])
            await proxy.start()
            self.proxies.append(proxy)
            self.actors.append(Actor(str(role), proxy.url, *arguments))
            self.actors[-1].start()

    async def break_things(self) -> None:
        """One fault after the other; each heals by itself some time later."""
        faults: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "kill worker": (30, lambda: self._kill("worker")),
            "pause worker": (15, lambda: self._pause("worker")),
            "cut worker off": (12, lambda: self._cut("worker")),
            "hold worker's bytes": (8, lambda: self._hold("worker")),
            "kill supervisor": (8, lambda: self._kill("supervisor")),
            "pause supervisor": (5, lambda: self._pause("supervisor")),
            "cut supervisor off": (4, lambda: self._cut("supervisor")),
            "kill caller": (8, lambda: self._kill("caller")),
            "cut caller off": (4, lambda: self._cut("caller")),
            "kill server": (3, lambda: self._alone(self.stage.kill)),
            "pause server": (3, lambda: self._alone(self.stage.pause)),
            **(
                {"cut server off": (3, lambda: self._alone(self.stage.cut))}
                if self.stage.replicas > 1
                else {}
            ),
        }
        names = list(faults)
        weights = [faults[name][0] for name in names]
        for _ in range(self.settings.faults):
            name = self.dice.choices(names, weights=weights)[0]
            self.done[name] += 1
            task = asyncio.ensure_future(faults[name][1]())
            self._healing.add(task)
            task.add_done_callback(self._healing.discard)
            await asyncio.sleep(self.dice.uniform(0.2, 1.8) * self.settings.gap)

    async def heal(self) -> None:
        """Wait until all faults are over, and the caller has submitted everything."""
        while self._healing:
            await asyncio.wait(list(self._healing))
        caller = next(actor for actor in self.actors if actor.role == "caller")
        deadline = time.monotonic() + self.settings.settle_seconds
        while caller.running and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """End all processes."""
        for actor in self.actors:
            actor.signal(signal.SIGCONT)
            actor.kill()
        for proxy in self.proxies:
            await proxy.stop()

    def _one(self, role: str) -> int:
        places = [place for place, actor in enumerate(self.actors) if actor.role == role]
        return self.dice.choice(places)

    async def _kill(self, role: str) -> None:
        actor = self.actors[self._one(role)]
        if not actor.running:
            return
        await asyncio.to_thread(actor.kill)
        await asyncio.sleep(self.dice.uniform(0.0, 0.5))
        if not actor.running:
            await asyncio.to_thread(actor.start)

    async def _pause(self, role: str) -> None:
        actor = self.actors[self._one(role)]
        actor.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.1, 2.5 * ACK_WAIT_SECONDS))
        actor.signal(signal.SIGCONT)

    async def _cut(self, role: str) -> None:
        await self.proxies[self._one(role)].cut(self.dice.uniform(0.1, 2.0 * ACK_WAIT_SECONDS))

    async def _hold(self, role: str) -> None:
        await self.proxies[self._one(role)].hold(self.dice.uniform(0.1, 2.0 * ACK_WAIT_SECONDS))

    async def _alone(self, fault: Callable[[random.Random], Awaitable[None]]) -> None:
        """One fault of a server at a time: a cluster of three survives one, not two."""
        async with self._stage_lock:
            await fault(self.dice)


class Customer:
    """Answers questions and cancels tasks while everything breaks."""

    def __init__(self, run: Run, bus: Bus) -> None:
        self._run = run
        self._bus = bus

    async def work(self) -> None:
        """Look after the tasks that ask or are to be canceled, until canceled itself."""
        started = time.monotonic()
        wishes = [order for order in self._run.orders if order.cancel_after is not None]
        while True:
            known = accepted_in(self._run.journal)
            for order in wishes:
                if order.task_id in known and order.task_id not in self._run.canceled:
                    await self._cancel(order, started)
            await self._answer()
            await asyncio.sleep(0.2)

    async def _cancel(self, order: Order, started: float) -> None:
        with contextlib.suppress(DragomanError):
            await self._bus.durable.task(order.task_id).request_cancel("chaos")
            self._run.canceled.add(order.task_id)

    async def _answer(self) -> None:
        with contextlib.suppress(DragomanError):
            async for task in self._bus.durable.tasks(skill="ask", state=TaskState.INPUT_REQUIRED):
                with contextlib.suppress(DragomanError):
                    await self._bus.durable.task(task.task_id).reply("yes")


async def run(settings: Settings) -> Outcome:
    """Do a whole run; the report says what was violated."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dragoman-chaos-") as place:
        directory = Path(place)
        stage = (
            ClusterStage(settings.nodes) if settings.nodes > 1 else ServerStage(directory / "nats")
        )
        with stage:
            chaos = Run(settings, stage, directory)
            stored, letters = await _perform(chaos)
        accepted = accepted_in(chaos.journal)
    promises = [
        Promise(order=order, canceled=order.task_id in chaos.canceled)
        for order in chaos.orders
        if order.task_id in accepted
    ]
    report = check(stored, letters, promises)
    if settings.history is not None:
        settings.history.write_text(_told(stored), encoding="utf-8")
    return Outcome(
        settings=settings,
        report=report,
        faults=dict(sorted(chaos.done.items())),
        seconds=round(time.monotonic() - started, 1),
    )


async def _perform(chaos: Run) -> tuple[list[Stored], list[Stored]]:
    """The run itself: what the logs and the dead letters hold at its end."""
    await chaos.start()
    url = ",".join(f"nats://{host}:{port}" for host, port in chaos.stage.addresses)
    transport = await _connected(url)
    try:
        async with Bus(transport) as bus:
            customer = asyncio.create_task(Customer(chaos, bus).work())
            try:
                await chaos.break_things()
                await chaos.heal()
                await _until_ended(bus, chaos, chaos.settings.settle_seconds)
                return await _all(bus, "dragoman.v1.evt.>"), await _all(bus, "dragoman.v1.dlq.>")
            finally:
                customer.cancel()
                await chaos.stop()
    finally:
        await transport.close()


async def _connected(url: str) -> NatsTransport:
    while True:
        try:
            return await NatsTransport.connect(NatsOptions.from_url(url))
        except DragomanError:
            await asyncio.sleep(0.2)


async def _until_ended(bus: Bus, chaos: Run, seconds: float) -> None:
    """Wait until every task has ended, at most so long; the checker tells which has not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(DragomanError):
            states = [task.state async for task in bus.durable.tasks()]
            if states and all(state in TERMINAL for state in states):
                return
        await asyncio.sleep(0.5)


def _told(stored: list[Stored]) -> str:
    """Every entry on a line: position, seconds since the first, subject, document."""
    first = stored[0].time if stored else 0.0
    return "".join(
        f"{entry.position} {entry.time - first:.3f} {entry.subject} {entry.data.decode()}\n"
        for entry in stored
    )


async def _all(bus: Bus, pattern: str) -> list[Stored]:
    found: list[Stored] = []
    while True:
        after = found[-1].position if found else 0
        page = await bus.durable.store.streams.read(LOG_STREAM, pattern, after=after)
        found += page.messages
        if not page.more or not page.messages:
            return found


def main() -> int:
    """Run from the command line; 1 when anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=600)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=1, choices=(1, 3), help="3: in containers")
    parser.add_argument("--history", type=Path, help="where to write every entry of the logs")
    arguments = parser.parse_args()
    settings = Settings(
        seed=arguments.seed,
        faults=arguments.faults,
        tasks=arguments.tasks,
        workers=arguments.workers,
        nodes=arguments.nodes,
        history=arguments.history,
    )
    outcome = asyncio.run(run(settings))
    print(json.dumps(msgspec.to_builtins(outcome, enc_hook=str), indent=2))
    return 1 if outcome.report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
