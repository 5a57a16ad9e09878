"""The same over the bus: a real server, members that are agents, ensembles that are agents.

Members run in a process of their own and answer at once: the clock of the report is simulated.
What is measured here is that the agents decide as the pure cores do, and at what price.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec import UNSET, Struct

from benchmarks.collective.agents import (
    SKILL,
    ensembles,
    name_of,
    on_a_loop,
    priced,
    serve_members,
    served,
)
from benchmarks.collective.cases import Case, Dataset, Model, Split
from benchmarks.collective.evaluating import SplitResult
from benchmarks.collective.policies import Outcome
from benchmarks.collective.rows import ROWS, SINGLE
from benchmarks.collective.statistics import percentile
from dragoman_agents import Agent
from dragoman_agents.ensembles.agents import failover
from dragoman_bus import Bus, connect
from dragoman_bus.protocol.errors import RemoteError, TaskFailed
from dragoman_bus.protocol.payloads import Cost, Usage
from dragoman_bus.protocol.receipts import EnsembleReceipt, Receipt
from dragoman_bus.server import NatsServer

__all__ = ["BusFailures", "BusRow", "BusRun", "over_the_bus"]

IN_FLIGHT = 16
DEADLINE = 60.0
READY_SECONDS = 120.0


class BusRow(Struct):
    """One row, over the bus.

    Attributes:
        outcomes: Of every test question of every split, by split.
        differ: Questions whose verdict is not that of the pure cores.
        price: What the bus counted, as a part of what the pure cores reckon.
        per_second: Questions answered a second, 16 in flight.
        failed: Questions that ended in an error other than an abstention.
        missing: Members that were asked and failed, which a machine under load may cause.
        errors: Their codes, and those of the questions that failed, with how often.
    """

    outcomes: list[list[Outcome]]
    differ: int = 0
    missing: int = 0
    errors: dict[str, int] = {}
    price: float = 1.0
    per_second: float = 0.0
    failed: int = 0

    @property
    def verdicts(self) -> int:
        """How many questions were answered."""
        return sum(map(len, self.outcomes))


class BusFailures(Struct):
    """Failover over the bus, on the real clock.

    Attributes:
        tasks, served: Asked, and answered within the deadline.
        paid: Calls of the provider that nobody allowed.
        survived: Failed calls of the other two.
        p50, p95: Seconds.
    """

    tasks: int
    served: int
    paid: int
    survived: int
    p50: float
    p95: float


class BusRun(Struct):
    """All of it."""

    rows: dict[str, BusRow]
    failures: BusFailures
    member_calls: int
    seconds: float


def over_the_bus(
    dataset: Dataset,
    divided: Sequence[Split],
    results: Sequence[SplitResult],
    *,
    failover_tasks: int,
    tell: Callable[[str], None] = print,
) -> BusRun:
    """Ask the ensembles of every split all its test questions."""
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        members = context.Process(
            target=serve_members, args=(server.url, dataset, ready, stop), daemon=True
        )
        members.start()
        try:
            if not ready.wait(READY_SECONDS):
                raise SystemExit("the members did not start")
            return on_a_loop(_run(server.url, dataset, divided, results, failover_tasks, tell))
        finally:
            stop.set()
            members.join(10)
            members.terminate()


async def _run(
    url: str,
    dataset: Dataset,
    divided: Sequence[Split],
    results: Sequence[SplitResult],
    failover_tasks: int,
    tell: Callable[[str], None],
) -> BusRun:
    began = time.monotonic()
    rows = {row.key: BusRow([]) for row in ROWS if row.by_bus}
    spent = {key: [0.0, 0.0, 0.0] for key in rows}  # bus, cores, seconds
    async with connect(url) as bus:
        for split, result in zip(divided, results, strict=True):
            async with ensembles(url, split.number, result.learned, dataset):
                for key, row in rows.items():
                    agent = result.learned.best if key == SINGLE else name_of(key, split.number)
                    started = time.monotonic()
                    got = await _ask_all(bus, agent, split.test, row)
                    spent[key][2] += time.monotonic() - started
                    row.outcomes.append(got)
                    for one, other in zip(got, result.outcomes[key], strict=True):
                        row.differ += one.value != other.value
                        spent[key][0] += one.price
                        spent[key][1] += other.price
            tell(f"split {split.number + 1} of {len(divided)} over the bus")
        for key, row in rows.items():
            row.price = spent[key][0] / spent[key][1] if spent[key][1] else 1.0
            row.per_second = row.verdicts / spent[key][2]
        failures = await _failover(url, bus, failover_tasks)
    calls = sum(one.asked for row in rows.values() for got in row.outcomes for one in got)
    return BusRun(rows, failures, calls, time.monotonic() - began)


async def _ask_all(bus: Bus, agent: str, cases: Sequence[Case], row: BusRow) -> list[Outcome]:
    """All questions to one agent, many at once; in the order of the cases."""
    outcomes: list[Outcome | None] = [None] * len(cases)
    waiting = iter(enumerate(cases))

    async def work() -> None:
        for index, case in waiting:
            outcomes[index] = await _ask(bus, agent, case, row)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return [one for one in outcomes if one is not None]


async def _ask(bus: Bus, agent: str, case: Case, row: BusRow) -> Outcome:
    value: str | None = None
    try:
        result = await bus.ask(SKILL, case.question(), agent=agent, deadline=DEADLINE)
        value, usage, receipt = result.value, result.usage, result.receipt
    except RemoteError as error:
        if error.code != "ABSTAINED":
            row.failed += 1
            _count(row.errors, error.code)
        usage, receipt = error.task_usage, error.receipt
    account = _account(receipt)
    asked = 1
    if account is not None:
        asked = sum(member.task_id is not UNSET for member in account.members)
        for member in account.members:
            if member.outcome == "failed":
                row.missing += 1
                _count(row.errors, str(member.code))
    confidence = None if account is None or account.confidence is UNSET else account.confidence
    return Outcome(value, _price_of(usage), 0.0, asked, confidence or None)


def _count(errors: dict[str, int], code: str) -> None:
    errors[code] = errors.get(code, 0) + 1


def _account(receipt: Receipt | None) -> EnsembleReceipt | None:
    if receipt is None or not isinstance(receipt.ensemble, EnsembleReceipt):
        return None
    return receipt.ensemble


def _price_of(usage: Usage | None) -> float:
    return 0.0 if usage is None or not isinstance(usage.cost, Cost) else usage.cost.amount


async def _failover(url: str, bus: Bus, tasks: int) -> BusFailures:
    """One provider is down, one fails every fifth call, the third costs more than is allowed."""
    calls = {"down": 0, "flaky": 0, "dear": 0}
    chance = random.Random(1)
    failed = 0

    def provider(name: str, price: float) -> Agent:
        agent = Agent(name, concurrency=64, queue=1024, models=[priced(Model(name, price, price))])

        async def serve(text: str) -> str:
            """Answers, or fails."""
            nonlocal failed
            calls[name] += 1
            if name == "down" or (name == "flaky" and chance.random() < 0.2):
                failed += 1
                code = "MODEL_UNREACHABLE" if name == "down" else "MODEL_OVERLOADED"
                raise TaskFailed("the provider failed", code=code, retryable=True)
            return name

        agent.add_skill("serve", serve)
        return agent

    ensemble = failover(
        "steady",
        skill="serve",
        members=["down", "flaky", "dear"],
        fallback="same_price",
        attempts_per_member=8,
    )
    seconds: list[float] = []
    async with AsyncExitStack() as stack:
        for agent in (provider("down", 1.0), provider("flaky", 1.0), provider("dear", 9.0)):
            await stack.enter_async_context(served(agent, url))
        await stack.enter_async_context(served(ensemble, url))
        waiting = iter(range(tasks))

        async def work() -> None:
            for number in waiting:
                started = time.monotonic()
                try:
                    await bus.ask("serve", f"task {number}", agent="steady", deadline=30.0)
                except RemoteError:
                    continue
                seconds.append(time.monotonic() - started)

        await asyncio.gather(*(work() for _ in range(8)))
    return BusFailures(
        tasks=tasks,
        served=len(seconds),
        paid=calls["dear"],
        survived=failed,
        p50=percentile(seconds, 0.5),
        p95=percentile(seconds, 0.95),
    )
