"""Router: one member for each task, chosen by what it costs and how it did so far.

Spec: spec/ensembles.md, router. The choice is made by ``ensembles.routing``; when the chosen member
fails, the next best one stands in, as far as ``fallback`` allows its price.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, structs

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import RouterTable
from dragoman_agents.ensembles.agents.agreeing import (
    AgreementOption,
    agreement_of,
)
from dragoman_agents.ensembles.agents.base import Ensemble, subject_of
from dragoman_agents.ensembles.agents.knowledge import RouterKnowledge, read_knowledge
from dragoman_agents.ensembles.agents.labels import Ballot
from dragoman_agents.ensembles.agents.learning import Learning
from dragoman_agents.ensembles.agents.making import make
from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_agents.ensembles.agents.shared_health import SharedHealth
from dragoman_agents.ensembles.agents.store import Store, quietly
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.agents.trying import Attempts
from dragoman_agents.ensembles.agreement import Agreement
from dragoman_agents.ensembles.routing import Candidate, Choice, Policy, Router, Wanted
from dragoman_bus.client import Bus
from dragoman_bus.protocol.receipts import ConsideredAgent

__all__ = ["Routing", "router"]

STICKY_SECONDS = 3600.0
STICKY_CONTEXTS = 10_000


class Route(Struct):
    """Where a context went."""

    member: str = ""


class Decision(Struct):
    """A choice as a step of a durable task keeps it."""

    order: list[str]
    reason: str
    considered: list[ConsideredAgent]


class Routing(Ensemble[RouterTable]):
    """An ensemble that chooses one member. See ``router``."""

    kind = "router"

    def __init__(
        self, name: str, table: RouterTable, *, agreement: Agreement | None = None, **rest: Any
    ) -> None:
        super().__init__(name, table, **rest)
        self.health = SharedHealth(name)
        self.learning = Learning(
            name, agreement or agreement_of(table.agreement), qualities=_learned(name, table)
        )
        policy = Policy(
            price_weight=table.price_weight,
            latency_weight=table.latency_weight,
            load_weight=table.load_weight,
            within=table.within,
            default=table.default,
            caution=table.caution,
        )
        self._router = Router(policy, self.learning.qualities)
        self._store: Store | None = None
        self._routes: OrderedDict[str, str] = OrderedDict()
        self.offer_feedback()

    async def start(self, bus: Bus) -> None:
        """Take over the members' contract, what was learned, and who cools down."""
        await super().start(bus)
        await self.health.start(bus)
        self._store = await Store.open(bus.transport)

    async def stop(self) -> None:
        """Write down what was learned."""
        await self.health.stop()
        await super().stop()

    async def answer(self, task: Task, input: Any) -> Any:
        """Choose a member and give its answer."""
        self.health.look_at(task.members)
        subject = subject_of(input, self.table.subject)

        async def decide() -> Any:
            return msgspec.to_builtins(await self._decide(task, subject))

        # A durable task is not routed anew in its next attempt: the first one was asked already.
        decision = msgspec.convert(await task.ctx.step("route", decide), Decision)
        considered = decision.considered[:1024]
        members = {member.name: member for member in task.members}
        order = [members[name] for name in decision.order if name in members]
        if not order:
            raise task.abstain(decision.reason, [], candidates=considered)
        attempts = Attempts(task, order, self.health, self.table)
        call, why = await attempts.first_answer()
        first = call.name == order[0].name
        words = decision.reason if first else f"{decision.reason}; then {why}"
        task.tell("served", words, attempts.reports(call), chosen=call, candidates=considered)
        assert self.learning is not None
        ballot = Ballot({call.name: call.value}, call.name, subject)
        self.learning.remember(task.ctx.task_id, ballot)
        return call.value

    async def _decide(self, task: Task, subject: str) -> Decision:
        context = self._context(task)
        if context is not None:
            await self._recall(context)
        choice = self._choose(task, subject, context)
        if context is None and random.random() < self.table.explore:
            choice = _explored(choice)
        if context is not None and choice.name is not None:
            await self._keep(context, choice.name)
        return Decision(
            order=list(choice.order),
            reason=choice.reason,
            considered=[
                ConsideredAgent(
                    agent=one.name,
                    why=one.why[:1024],
                    score=UNSET if one.score is None else round(one.score, 6),
                )
                for one in choice.considered
            ],
        )

    def _choose(self, task: Task, subject: str, context: str | None) -> Choice:
        spending = task.calls.spending
        limit = task.ctx.remaining_cost
        free = self.table.unknown_price == "allow"
        wanted = Wanted(
            subject=subject,
            capabilities=frozenset(self.table.capabilities),
            tokens=spending.input_tokens + spending.output_tokens,
            max_price=None if limit is None or free else limit.amount,
            max_latency=self.table.max_seconds,
        )
        candidates = [self._candidate(task, member) for member in task.members]
        return self._router.choose(
            candidates, wanted, context=context, draw=_draw(task.ctx.context_id)
        )

    def _candidate(self, task: Task, member: MemberView) -> Candidate:
        book = self.health.book
        expected = task.calls.spending.expected(member)
        return Candidate(
            name=member.name,
            price=None if expected is None else expected.amount,
            latency=book.latency(member.name),
            success=book.success_rate(member.name),
            load=member.load,
            capabilities=member.tags,
            context_window=member.context_window,
            healthy=not book.is_cooling(member.name, time.monotonic()),
            canary=member.member.canary,
        )

    def _context(self, task: Task) -> str | None:
        """The conversation, if the task belongs to one."""
        context = task.ctx.context_id
        return context if self.table.sticky and context != task.ctx.task_id else None

    async def _recall(self, context: str) -> None:
        """Learn from other replicas where a context went."""
        if context in self._routes or self._store is None:
            return
        route = await self._store.read(f"route.{self.agent.name}.{context}", Route)
        if route is not None:
            self._router.remember(context, route.member)
            self._note(context, route.member)

    async def _keep(self, context: str, member: str) -> None:
        if self._routes.get(context) != member and self._store is not None:
            self._note(context, member)
            key = f"route.{self.agent.name}.{context}"
            await quietly(self._store.put(key, Route(member), ttl=STICKY_SECONDS))

    def _note(self, context: str, member: str) -> None:
        self._routes[context] = member
        self._routes.move_to_end(context)
        while len(self._routes) > STICKY_CONTEXTS:
            self._routes.popitem(last=False)


def router(
    name: str,
    *,
    agreement: Agreement | AgreementOption | None = None,
    **options: Any,
) -> Agent:
    """An agent that gives each task to the member that suits it best.

    ``router("thrifty", skill="answer", members=["gpt", "llama"], default="gpt", within=0.03)``.

    Args:
        name: Its name.
        agreement: When an answer is the one that a label says: as in a file, or an object.
        options: The members of ``RouterTable``, and of ``AgentOptions``.

    Raises:
        NotConfigured: an option that is unknown or cannot be.
    """
    return make(Routing, RouterTable, name, options, agreement=agreement)


def _explored(choice: Choice) -> Choice:
    """The same with another of the possible members in the first place."""
    others = choice.order[1:]
    if not others:
        return choice
    tried = random.choice(others)
    words = f"{tried} is tried, to learn how it does"
    return structs.replace(choice, name=tried, reason=words)


def _draw(context: str) -> float:
    """A number in [0, 1) that is always the same for a context, so canaries are sticky too."""
    return int.from_bytes(hashlib.sha256(context.encode()).digest()[:8]) / 2**64


def _learned(name: str, table: RouterTable) -> Mapping[str, Mapping[str, tuple[float, float]]]:
    """What the file that the table names holds; nothing when it names none."""
    if table.learned is None:
        return {}
    known = read_knowledge(table.learned, RouterKnowledge, ensemble=name, skill=table.skill)
    return known.qualities
