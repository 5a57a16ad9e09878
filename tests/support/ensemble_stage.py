"""A bus with members that answer as they are told, and ensembles served beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from dragoman_agents import Agent, Context, serving
from dragoman_agents.ensembles.agents.store import ENSEMBLE_BUCKET
from dragoman_bus import Bus
from dragoman_bus.client import Result
from dragoman_bus.protocol.payloads import Cost, ModelFacts, Price, Usage
from dragoman_bus.protocol.receipts import EnsembleReceipt, MemberReport
from dragoman_bus.service import Instance
from dragoman_bus.transports.port import Transport

__all__ = ["Stage", "account_of", "outcomes_of", "stage"]

MakeTransport = Callable[[], Awaitable[Transport]]
Answer = Callable[[str], Any] | str | Exception | None
"""What a member says: a text, what a function gives for the input, an error, or nothing, ever."""


class Stage:
    """Members and ensembles on one bus.

    Attributes:
        bus: A caller.
        calls: Who was asked, in order.
        canceled: Who was stopped.
    """

    def __init__(self, stack: AsyncExitStack, make: MakeTransport) -> None:
        self.bus: Bus
        self.calls: list[str] = []
        self.canceled: asyncio.Queue[str] = asyncio.Queue()
        self.answers: dict[str, Answer] = {}
        self.make = make
        self._stack = stack
        self._transports: dict[str, Transport] = {}

    async def member(
        self,
        name: str,
        answer: Answer,
        *,
        skill: str = "guess",
        price: float | None = None,
        tokens: int = 10,
        family: str | None = None,
        tags: tuple[str, ...] = (),
        after: asyncio.Event | None = None,
        concurrency: int = 16,
        context_window: int | None = None,
    ) -> Instance:
        """An agent with one skill; ``price`` is that of a million tokens, in USD."""
        models = []
        if price is not None or family is not None:
            facts: dict[str, Any] = {}
            if price is not None:
                facts["price"] = Price(
                    input_per_million_tokens=price,
                    output_per_million_tokens=price,
                    currency="USD",
                    as_of="2026-11-01",
                )
            if context_window is not None:
                facts["context_window"] = context_window
            models = [ModelFacts(provider="test", family=family or name, model=name, **facts)]
        agent = Agent(name, concurrency=concurrency, models=models)
        self.answers[name] = answer

        async def guess(text: str, ctx: Context) -> str:
            """Answers as it was told."""
            self.calls.append(name)
            try:
                if after is not None:
                    await after.wait()
                said = self.answers[name]
                if said is None:
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.canceled.put_nowait(name)
                raise
            finally:
                if models:
                    cost = None if price is None else price * tokens / 1e6
                    ctx.report_usage(
                        Usage(
                            input_tokens=tokens // 2,
                            output_tokens=tokens - tokens // 2,
                            calls=1,
                            source="provider",
                            **({} if cost is None else {"cost": Cost(amount=cost, currency="USD")}),
                        )
                    )
                    ctx.served_by(provider="test", family=family or name, model=name)
            if isinstance(said, Exception):
                raise said
            return str(said(text) if callable(said) else said)

        agent.add_skill(skill, guess, tags=tags)
        return await self.serve(agent)

    async def serve(self, agent: Agent, **options: Any) -> Instance:
        """Serve an agent until the stage is left, on a connection of its own."""
        options = {"grace_seconds": 1.0, **options}
        self._transports[agent.name] = transport = await self.make()
        return await self._stack.enter_async_context(serving(agent, transport, **options))

    async def kill(self, name: str) -> None:
        """Cut an agent off, as if its process had died."""
        await self._transports[name].close()

    async def ask(self, agent: str, text: str = "what?", **options: Any) -> Result:
        """Ask an ensemble."""
        options = {"skill": "guess", "deadline": 10.0, **options}
        skill = options.pop("skill")
        async with asyncio.timeout(15):
            return await self.bus.ask(skill, text, agent=agent, **options)


@asynccontextmanager
async def stage(make: MakeTransport) -> AsyncIterator[Stage]:
    """A stage with nobody on it yet."""
    async with AsyncExitStack() as stack:
        made = Stage(stack, make)
        made.bus = await stack.enter_async_context(Bus(await make()))
        # Tests of one module share a server: what an earlier one taught is not known here.
        bucket = await made.bus.transport.key_value(ENSEMBLE_BUCKET)
        for entry in await bucket.entries():
            await bucket.delete(entry.key)
        yield made


def account_of(result: Result) -> EnsembleReceipt:
    """The account in the receipt of a result."""
    assert result.receipt is not None
    account = result.receipt.ensemble
    assert isinstance(account, EnsembleReceipt)
    return account


def outcomes_of(account: EnsembleReceipt) -> dict[str, str]:
    """Agent and outcome."""
    return {member.agent: member.outcome for member in account.members}


def report_of(account: EnsembleReceipt, agent: str) -> MemberReport:
    """The report on one member."""
    return next(member for member in account.members if member.agent == agent)
