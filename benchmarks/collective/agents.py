"""The members and the ensembles of the benchmark, as agents.

Members replay what the models said, at once and at their price. What was learned is given to the
ensembles as their options, or stands in the bucket that their replicas share, as if labels had
been given to them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from benchmarks.collective.cases import Case, Dataset, Model
from benchmarks.collective.learning import CASCADE_BUDGET, Learned
from benchmarks.collective.policies import stages_of
from benchmarks.collective.recorded import PROMPT_TOKENS
from benchmarks.collective.rows import NEAR
from dragoman_agents import Agent, Context, serving
from dragoman_agents.ensembles.agents import cascade, consensus, router
from dragoman_agents.ensembles.agents.labels import Learned as Shared
from dragoman_agents.ensembles.agents.store import Store
from dragoman_agents.ensembles.routing import QualityTable
from dragoman_bus.protocol.payloads import Cost, ModelFacts, Price, Usage
from dragoman_bus.transports.nats import connect_nats

__all__ = ["SKILL", "ensembles", "name_of", "on_a_loop", "priced", "serve_members", "served"]

SKILL = "answer"
PRICED_ON = "2024-09-01"
Result = TypeVar("Result")


def on_a_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it on the loop that `dragoman` uses, and leave the loops of others alone."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


@asynccontextmanager
async def served(agent: Agent, url: str) -> AsyncIterator[None]:
    """An agent on a connection of its own."""
    transport = await connect_nats(url)
    try:
        async with serving(agent, transport, grace_seconds=1.0):
            yield
    finally:
        await transport.close()


@asynccontextmanager
async def ensembles(
    url: str, split: int, learned: Learned, dataset: Dataset
) -> AsyncIterator[None]:
    """The ensembles of one split, each on a connection of its own."""
    async with AsyncExitStack() as stack:
        transport = await connect_nats(url)
        store = await Store.open(transport)
        assert store is not None
        for key in ("router", "router_cheap"):
            shared = _shared(learned.qualities)
            await store.put(f"learned.{name_of(key, split)}", shared)
        for agent in _agents(split, learned, dataset):
            await stack.enter_async_context(served(agent, url))
        await transport.close()
        yield


def _agents(split: int, learned: Learned, dataset: Dataset) -> list[Agent]:
    """The rows as agents."""

    def vote(key: str, members: Sequence[str], **options: Any) -> Agent:
        options = {"stop_early": False, "choices": dataset.choices, **options}
        return consensus(name_of(key, split), skill=SKILL, members=list(members), **options)

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
        agents.append(_cascade(name_of(key, split), learned, part))
    prices = [{"agent": name, "price": price} for name, price in learned.prices.items()]
    for key, within in (("router", 0.0), ("router_cheap", NEAR)):
        agents.append(
            router(
                name_of(key, split),
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


def serve_members(url: str, dataset: Dataset, ready: Event, stop: Event) -> None:
    """The process of the members."""
    on_a_loop(_members(url, dataset, ready, stop))


async def _members(url: str, dataset: Dataset, ready: Event, stop: Event) -> None:
    cases = {case.id: case for case in dataset.cases}
    async with AsyncExitStack() as stack:
        for model in dataset.models.values():
            agent = _member(model, cases)
            await stack.enter_async_context(served(agent, url))
        ready.set()
        while not await asyncio.to_thread(stop.wait, 1.0):
            pass


def _member(model: Model, cases: dict[str, Case]) -> Agent:
    agent = Agent(model.name, models=[priced(model)], concurrency=256, queue=1024)

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


def name_of(key: str, split: int) -> str:
    return f"{key.replace('_', '-')}-{split}"


def priced(model: Model) -> ModelFacts:
    """What an agent announces of its model."""
    return ModelFacts(
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
