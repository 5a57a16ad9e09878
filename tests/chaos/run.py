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
from msgspec import UNSET

from dragoman_bus.client import Bus
from dragoman_bus.client.dead_letters import DeadLetter
from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.streams import Stored
from tests.chaos.actors import ACK_WAIT_SECONDS, DEADLINE_SECONDS, Actor, accepted_in
from tests.chaos.checker import Promise, Report, check
from tests.chaos.proxy import Proxy
from tests.chaos.stage import ClusterStage, ServerStage, Stage
from tests.chaos.workload import ENDLESS, Order, make_order

__all__ = ["Outcome", "Settings", "run"]

TERMINAL = {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.REJECTED}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How much happens."""

    seed: int = 1
    faults: int = 300
    tasks: int = 600
    workers: int = 3
    callers: int = 1
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
        self._ending: set[Actor] = set()
        self._healing: set[asyncio.Future[None]] = set()
        self._stage_lock = asyncio.Lock()

    async def start(self) -> None:
        """Start everything behind a proxy of its own."""
        pace = 0.8 * self.settings.faults * self.settings.gap / max(1, len(self.orders))
        roles: list[tuple[object, ...]] = [("worker",)] * self.settings.workers
        roles += [("supervisor", self.stage.replicas)] * 2
        callers = self.settings.callers
        for number in range(callers):
            orders = self.orders[number::callers]
            roles.append(("caller", self.journal, orders, pace * callers))
        for number, (role, *arguments) in enumerate(roles):
            addresses = self.stage.addresses
            proxy = Proxy(addresses[number % len(addresses)])
            await proxy.start()
            self.proxies.append(proxy)
            self.actors.append(Actor(str(role), proxy.url, *arguments))
            self.actors[-1].start()

    async def break_things(self) -> None:
        """One fault after the other; each heals by itself some time later."""
        faults = self._faults()
        names = list(faults)
        weights = [faults[name][0] for name in names]
        while self.done.total() < self.settings.faults:
            name = self.dice.choices(names, weights=weights)[0]
            victims = self._victims(name.split()[1])
            if victims:
                self.done[name] += 1
                work = faults[name][1](self.dice.choice(victims))
                self._healing.add(asyncio.ensure_future(work))
            await asyncio.sleep(self.dice.uniform(0.2, 1.8) * self.settings.gap)

    def _faults(self) -> dict[str, tuple[int, Callable[[int], Awaitable[None]]]]:
        """What may happen to whom, and how often in relation to the others."""
        stage = self.stage
        faults: dict[str, tuple[int, Callable[[int], Awaitable[None]]]] = {
            "kill worker": (28, self._kill),
            "restart worker": (5, self._restart),
            "pause worker": (15, self._pause),
            "partition worker": (12, self._cut),
            "hold worker": (8, self._hold),
            "kill supervisor": (8, self._kill),
            "restart supervisor": (2, self._restart),
            "pause supervisor": (5, self._pause),
            "partition supervisor": (4, self._cut),
            "kill caller": (7, self._kill),
            "pause caller": (2, self._pause),
            "partition caller": (4, self._cut),
            "kill server": (3, lambda _: self._alone(stage.kill)),
            "restart server": (1, lambda _: self._alone(stage.restart)),
            "pause server": (3, lambda _: self._alone(stage.pause)),
        }
        if stage.replicas > 1:
            faults["partition server"] = (3, lambda _: self._alone(stage.cut))
        return faults

    async def heal(self) -> None:
        """Wait until all faults are over, and the callers have submitted everything.

        Callers behind their pace get the time they need, as long as something is accepted.
        """
        await asyncio.gather(*self._healing)
        callers = [actor for actor in self.actors if actor.role == "caller"]
        accepted, deadline = 0, time.monotonic() + self.settings.settle_seconds
        while any(caller.running for caller in callers):
            now = time.monotonic()
            if (known := len(accepted_in(self.journal))) > accepted:
                accepted, deadline = known, now + self.settings.settle_seconds
            if now > deadline:
                raise TimeoutError(f"callers submit nothing more after {accepted} tasks")
            await asyncio.sleep(0.2)

    async def stop(self) -> None:
        """End all processes."""
        for actor in self.actors:
            actor.signal(signal.SIGCONT)
            actor.kill()
        for proxy in self.proxies:
            await proxy.stop()

    def _victims(self, role: str) -> list[int]:
        """The places of the living processes of a role; a fault that hits nobody is none."""
        if role == "server":
            # One after the other: of three nodes one may be away, not two.
            return [] if self._stage_lock.locked() else [0]
        return [
            place
            for place, actor in enumerate(self.actors)
            if actor.role == role and actor.running and actor not in self._ending
        ]

    async def _kill(self, place: int) -> None:
        await self._end(self.actors[place], Actor.kill)

    async def _restart(self, place: int) -> None:
        await self._end(self.actors[place], lambda actor: actor.ask_to_leave(3.0))

    async def _end(self, actor: Actor, end: Callable[[Actor], None]) -> None:
        self._ending.add(actor)
        await asyncio.to_thread(end, actor)
        await asyncio.sleep(self.dice.uniform(0.0, 0.5))
        await asyncio.to_thread(actor.start)
        self._ending.discard(actor)

    async def _pause(self, place: int) -> None:
        actor = self.actors[place]
        actor.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.1, 2.5 * ACK_WAIT_SECONDS))
        actor.signal(signal.SIGCONT)

    async def _cut(self, place: int) -> None:
        await self.proxies[place].cut(self.dice.uniform(0.1, 2.0 * ACK_WAIT_SECONDS))

    async def _hold(self, place: int) -> None:
        await self.proxies[place].hold(self.dice.uniform(0.1, 2.0 * ACK_WAIT_SECONDS))

    async def _alone(self, fault: Callable[[random.Random], Awaitable[None]]) -> None:
        """One fault of a server at a time: a cluster of three survives one, not two."""
        async with self._stage_lock:
            await fault(self.dice)


class Customer:
    """Answers questions, cancels tasks and settles dead letters while everything breaks."""

    def __init__(self, run: Run, bus: Bus) -> None:
        self._run = run
        self._bus = bus
        self._seen: dict[str, float] = {}
        self._asked_after = 0
        self._failed_after = 0

    async def work(self) -> None:
        """Look after tasks that ask, are to be canceled, or have failed, until canceled itself."""
        wishes = [order for order in self._run.orders if order.cancel_after is not None]
        while True:
            known, now = accepted_in(self._run.journal), time.monotonic()
            for order in wishes:
                if order.task_id in known and order.task_id not in self._run.canceled:
                    wait = order.cancel_after or 0.0
                    if now >= self._seen.setdefault(order.task_id, now) + wait:
                        await self._cancel(order)
            await self._answer()
            await self._settle()
            await asyncio.sleep(0.2)

    async def _cancel(self, order: Order) -> None:
        with contextlib.suppress(DragomanError):
            await self._bus.durable.task(order.task_id).request_cancel("chaos")
            self._run.canceled.add(order.task_id)

    async def _settle(self) -> None:
        """Redrive what failed once, twice at the same time; drop what failed again."""
        letters = self._bus.durable.dead_letters
        all_settled = True
        with contextlib.suppress(DragomanError):
            async for letter in letters.all(settled=True, after=self._failed_after):
                if letter.is_open:
                    all_settled = False
                    await self._settle_one(letter)
                elif all_settled:
                    self._failed_after = letter.position

    async def _settle_one(self, letter: DeadLetter) -> None:
        letters, task_id = self._bus.durable.dead_letters, letter.data.task_id
        tries: list[Awaitable[object]]
        submission = letter.data.submission
        if submission.redrive_of is UNSET and submission.skill not in ENDLESS:
            tries = [letters.redrive(task_id, deadline=DEADLINE_SECONDS) for _ in range(2)]
        else:
            tries = [letters.drop(task_id, reason="failed again")]
        for result in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, DragomanError):
                raise result

    async def _answer(self) -> None:
        all_ended = True
        with contextlib.suppress(DragomanError):
            async for task in self._bus.durable.tasks(skill="ask", after=self._asked_after):
                if task.state is TaskState.INPUT_REQUIRED:
                    with contextlib.suppress(DragomanError):
                        await self._bus.durable.task(task.task_id).reply("yes")
                all_ended = all_ended and task.state in TERMINAL
                if all_ended:
                    self._asked_after = task.position


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
    """Wait until every task has ended and every failure is settled, at most so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(DragomanError):
            states = [task.state async for task in bus.durable.tasks()]
            unsettled = [letter async for letter in bus.durable.dead_letters.all()]
            if states and all(state in TERMINAL for state in states) and not unsettled:
                return
        await asyncio.sleep(1.0)


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
    parser.add_argument("--gap", type=float, default=0.25, help="seconds between faults")
    parser.add_argument("--settle", type=float, default=120.0, help="seconds for the rest to end")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=1, choices=(1, 3), help="3: in containers")
    parser.add_argument("--history", type=Path, help="where to write every entry of the logs")
    arguments = parser.parse_args()
    settings = Settings(
        seed=arguments.seed,
        faults=arguments.faults,
        tasks=arguments.tasks,
        gap=arguments.gap,
        settle_seconds=arguments.settle,
        workers=arguments.workers,
        callers=arguments.callers,
        nodes=arguments.nodes,
        history=arguments.history,
    )
    outcome = asyncio.run(run(settings))
    print(json.dumps(msgspec.to_builtins(outcome, enc_hook=str), indent=2))
    return 1 if outcome.report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
