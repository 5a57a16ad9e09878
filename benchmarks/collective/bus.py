"""The same over the bus: a real server, members that are agents, ensembles that are agents.

Members run in a process of their own and replay what the models said, at once: the clock of the
report is simulated, what is measured here is that the agents decide as the pure cores do, and at
what price. What was learned is given to the ensembles as their options, or stands in the bucket
that their replicas share, as if labels had been given to them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, TypeVar

from msgspec import UNSET, Struct

from benchmarks.collective.cases import Case, Dataset, Model, Split
from benchmarks.collective.evaluating import SplitResult
from benchmarks.collective.learning import CASCADE_BUDGET, Learned
from benchmarks.collective.policies import Outcome, stages_of
from benchmarks.collective.recorded import PROMPT_TOKENS
from benchmarks.collective.rows import NEAR, ROWS, SINGLE
from dragoman_agents import Agent, Context, serving
from dragoman_agents.ensembles.agents import cascade, consensus, failover, router
from dragoman_agents.ensembles.agents.labels import Learned as Shared
from dragoman_agents.ensembles.agents.spending import BYTES_PER_TOKEN
from dragoman_agents.ensembles.agents.store import Store
from dragoman_agents.ensembles.routing import QualityTable
from dragoman_bus import Bus, connect
from dragoman_bus.protocol.errors import RemoteError, TaskFailed
from dragoman_bus.protocol.payloads import Cost, ModelFacts, Price, Usage
from dragoman_bus.protocol.receipts import EnsembleReceipt, Receipt
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import connect_nats

__all__ = ["BusFailures", "BusRow", "BusRun", "over_the_bus"]

SKILL = "answer"
IN_FLIGHT = 16
DEADLINE = 60.0
Result = TypeVar("Result")
PRICED_ON = "2024-09-01"
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
            target=_serve_members, args=(server.url, dataset, ready, stop), daemon=True
        )
        members.start()
        try:
            if not ready.wait(READY_SECONDS):
                raise SystemExit("the members did not start")
            return _on_a_loop(_run(server.url, dataset, divided, results, failover_tasks, tell))
        finally:
            stop.set()
            members.join(10)
            members.terminate()


def _on_a_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it on the loop that `dragoman` uses, and leave the loops of others alone."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


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
            async with _ensembles(url, split.number, result.learned, dataset):
                for key, row in rows.items():
                    agent = result.learned.best if key == SINGLE else _name(key, split.number)
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


def question(case: Case) -> dict[str, str]:
    """The input: the question's number, padded to its length, since lengths are looked at."""
    empty = len('{"text":" ","subject":""}') + len(case.id) + len(case.subject)
    padding = "." * max(0, case.input_tokens * BYTES_PER_TOKEN - empty)
    return {"text": f"{case.id} {padding}", "subject": case.subject}


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
        result = await bus.ask(SKILL, question(case), agent=agent, deadline=DEADLINE)
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


def _name(key: str, split: int) -> str:
    return f"{key.replace('_', '-')}-{split}"


@asynccontextmanager
async def _served(agent: Agent, url: str) -> AsyncIterator[None]:
    """An agent on a connection of its own."""
    transport = await connect_nats(url)
    try:
        async with serving(agent, transport, grace_seconds=1.0):
            yield
    finally:
        await transport.close()


@asynccontextmanager
async def _ensembles(
    url: str, split: int, learned: Learned, dataset: Dataset
) -> AsyncIterator[None]:
    """The ensembles of one split, each on a connection of its own."""
    async with AsyncExitStack() as stack:
        transport = await connect_nats(url)
        store = await Store.open(transport)
        assert store is not None
        for key in ("router", "router_cheap"):
            shared = _shared(learned.qualities)
            await store.put(f"learned.{_name(key, split)}", shared)
        for agent in _agents(split, learned, dataset):
            await stack.enter_async_context(_served(agent, url))
        await transport.close()
        yield


def _agents(split: int, learned: Learned, dataset: Dataset) -> list[Agent]:
    """The rows as agents."""

    def vote(key: str, members: Sequence[str], **options: Any) -> Agent:
        options = {"stop_early": False, "choices": dataset.choices, **options}
        return consensus(_name(key, split), skill=SKILL, members=list(members), **options)

    pool: dict[str, Any] = {
        "weights": learned.pool.weights,
        "subject": "subject",
        "explore": 0.0,
    }
    needed = {"ask": "as_needed", "stop_early": True}
    everybody = pool | needed | {"weights": learned.everybody.weights}
    agents = [
        vote("naive_all", learned.ranked),
        vote("equal_four", learned.ranked[:4]),
        vote("pool_full", learned.pool.members, **pool),
        vote("pool", learned.pool.members, **pool, **needed, order=learned.pool.order),
        vote(
            "all_learned",
            learned.everybody.members,
            **everybody,
            order=learned.everybody.order,
        ),
        vote(
            "abstain",
            learned.pool.members,
            **pool,
            **needed,
            order=learned.pool.order,
            minimum_confidence=learned.minimum_confidence,
        ),
    ]
    budgets = {"agreement_cascade": None, "cascade": CASCADE_BUDGET, "cascade_rich": 1.0}
    for key, part in budgets.items():
        agents.append(_cascade(_name(key, split), learned, part))
    prices = [{"agent": name, "price": price} for name, price in learned.prices.items()]
    for key, within in (("router", 0.0), ("router_cheap", NEAR)):
        agents.append(
            router(
                _name(key, split),
                skill=SKILL,
                members=prices,
                default=learned.best,
                within=within,
                subject="subject",
                sticky=False,
            )
        )
    return agents


def _cascade(name: str, learned: Learned, part: float | None) -> Agent:
    stages = [{"members": [learned.best]}]
    escalations = []
    if learned.pair is not None:
        stages = [{"members": list(stage.members)} for stage in stages_of(learned)]
        escalations = [] if part is None else [learned.escalations[part]]
    return cascade(name, skill=SKILL, stages=stages, escalations=escalations, subject="subject")


def _shared(qualities: QualityTable) -> Shared:
    """What the router's replicas would know after these labels."""
    subjects: dict[str, dict[str, tuple[float, float]]] = {}
    for (member, subject), (right, seen) in qualities.tallies().items():
        subjects.setdefault(subject, {})[member] = (right, seen)
    return Shared(subjects=subjects)


def _serve_members(url: str, dataset: Dataset, ready: Event, stop: Event) -> None:
    """The process of the members."""
    _on_a_loop(_members(url, dataset, ready, stop))


async def _members(url: str, dataset: Dataset, ready: Event, stop: Event) -> None:
    cases = {case.id: case for case in dataset.cases}
    async with AsyncExitStack() as stack:
        for model in dataset.models.values():
            agent = _member(model, cases)
            await stack.enter_async_context(_served(agent, url))
        ready.set()
        while not await asyncio.to_thread(stop.wait, 1.0):
            pass


def _member(model: Model, cases: dict[str, Case]) -> Agent:
    facts = ModelFacts(
        provider="replay",
        family=model.name,
        model=model.name,
        price=Price(
            input_per_million_tokens=model.input_price,
            output_per_million_tokens=model.output_price,
            currency="USD",
            as_of=PRICED_ON,
        ),
    )
    agent = Agent(model.name, models=[facts], concurrency=256, queue=1024)

    async def answer(text: str, subject: str, ctx: Context) -> str | None:
        """Says what the model said."""
        case = cases[text.split(" ", 1)[0]]
        reply = case.replies[model.name]
        ctx.report_usage(
            Usage(
                input_tokens=PROMPT_TOKENS + case.input_tokens,
                output_tokens=reply.output_tokens,
                calls=1,
                cost=Cost(amount=reply.price, currency="USD"),
                source="provider",
            )
        )
        ctx.served_by(provider="replay", family=model.name, model=model.name)
        return reply.pick

    agent.add_skill(SKILL, answer)
    return agent


async def _failover(url: str, bus: Bus, tasks: int) -> BusFailures:
    """One provider is down, one fails every fifth call, the third costs more than is allowed."""
    calls = {"down": 0, "flaky": 0, "dear": 0}
    chance = random.Random(1)
    failed = 0

    def provider(name: str, price: float) -> Agent:
        agent = Agent(name, concurrency=64, queue=1024, models=[_priced(name, price)])

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
            await stack.enter_async_context(_served(agent, url))
        await stack.enter_async_context(_served(ensemble, url))
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
    ordered = sorted(seconds) or [0.0]
    return BusFailures(
        tasks=tasks,
        served=len(seconds),
        paid=calls["dear"],
        survived=failed,
        p50=ordered[len(ordered) // 2],
        p95=ordered[int(len(ordered) * 0.95)],
    )


def _priced(name: str, price: float) -> ModelFacts:
    return ModelFacts(
        provider="test",
        family=name,
        model=name,
        price=Price(
            input_per_million_tokens=price,
            output_per_million_tokens=price,
            currency="USD",
            as_of=PRICED_ON,
        ),
    )
