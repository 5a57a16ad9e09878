"""The tasks of a chaos run: what is asked, what must come of it, and the agent that does it."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Literal

import msgspec

from dragoman_agents import Agent, Context
from dragoman_bus.protocol.errors import RemoteError

__all__ = ["ENDLESS", "Kind", "Order", "chaos_agent", "helping_agent", "make_order"]

Kind = Literal[
    "quick",
    "stream",
    "sleep",
    "flaky",
    "hopeless",
    "steps",
    "ask",
    "tree",
    "line",
    "follow",
    "endless",
    "deep",
]

KINDS: dict[Kind, int] = {
    "quick": 26,
    "stream": 18,
    "sleep": 10,
    "flaky": 8,
    "hopeless": 4,
    "steps": 12,
    "ask": 6,
    "tree": 6,
    "line": 6,
    "follow": 4,
    "endless": 3,
    "deep": 3,
}

ENDLESS: tuple[Kind, ...] = ("endless", "deep")
"""Kinds that only a cancel ends: one by itself, one with a task below it."""

LINE_LENGTH = 100
"""Of so many orders, those of the kind ``line`` share a context and run one after the other."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One task to submit: its id, skill, input, whether it is canceled, and what it has to give."""

    task_id: str
    kind: Kind
    input: dict[str, Any]
    agent: str | None = None
    class_: Literal["interactive", "batch"] = "interactive"
    maximum_attempts: int = 25
    context_id: str | None = None
    cancel_after: float | None = None
    expected: str | None = None

    @property
    def ordered(self) -> bool:
        """Whether it waits for the tasks of its context before it."""
        return self.context_id is not None


def make_order(number: int, seed: int) -> Order:
    """The ``number``-th order of a seed."""
    dice = random.Random(f"{seed}:{number}")
    kind = dice.choices(list(KINDS), weights=list(KINDS.values()))[0]
    size = dice.randint(1, 8)
    word = f"w{number}"
    return Order(
        task_id=f"c{seed}-{number}",
        kind=kind,
        input={"word": word, "size": size},
        agent="chaos" if dice.random() < 0.2 else None,
        class_="batch" if dice.random() < 0.3 else "interactive",
        maximum_attempts=3 if kind == "hopeless" else 25,
        context_id=f"line{seed}-{number // LINE_LENGTH}" if kind == "line" else None,
        cancel_after=dice.uniform(0.0, 2.0) if dice.random() < 0.1 or kind in ENDLESS else None,
        expected=_expected(kind, word, size),
    )


def _expected(kind: Kind, word: str, size: int) -> str | None:
    if kind in ("hopeless", "steps", *ENDLESS):
        # These give nothing; what steps give is in their log.
        return None
    if kind == "stream":
        return "".join(f"{word}.{index} " for index in range(size * 4))
    if kind == "ask":
        return f"{word}:yes"
    return word * size


def chaos_agent(concurrency: int = 8) -> Agent:
    """The agent whose replicas are killed; each kind of order is a skill of it."""
    agent = Agent("chaos", concurrency=concurrency)

    @agent.skill
    async def quick(word: str, size: int) -> str:
        return word * size

    @agent.skill
    async def stream(word: str, size: int, *, ctx: Context) -> str:
        whole = ""
        for index in range(size * 4):
            piece = f"{word}.{index} "
            whole += piece
            await ctx.emit(piece)
            await asyncio.sleep(0.02)
        return whole

    @agent.skill
    async def sleep(word: str, size: int) -> str:
        await asyncio.sleep(size * 0.2)
        return word * size

    @agent.skill
    async def flaky(word: str, size: int, *, ctx: Context) -> str:
        if ctx.attempt < 3 and size % 2:
            raise RemoteError("not yet", code="OVERLOADED", retryable=True)
        return word * size

    @agent.skill
    async def hopeless(word: str, size: int, *, ctx: Context) -> str:
        await ctx.emit(word)
        raise RemoteError("never", code="SKILL_FAILED", retryable=size % 2 == 0)

    @agent.skill
    async def steps(word: str, size: int, *, ctx: Context) -> str:
        whole = ""
        for index in range(size):

            async def work() -> str:
                await asyncio.sleep(0.15)
                # Another value each time it is done, so that a step done twice shows.
                return f"{word}.{random.getrandbits(48):012x} "

            whole += await ctx.step(f"part {index}", work)
        return whole

    @agent.skill
    async def ask(word: str, size: int, *, ctx: Context) -> str:
        return f"{word}:{await ctx.ask('Well?')}"

    @agent.skill
    async def tree(word: str, size: int, *, ctx: Context) -> str:
        return (await ctx.delegate("nap", word=word, size=size)).text

    @agent.skill
    async def line(word: str, size: int) -> str:
        await asyncio.sleep(size * 0.02)
        return word * size

    @agent.skill
    async def endless(word: str, size: int) -> str:
        await asyncio.sleep(3600)
        return word * size

    @agent.skill
    async def deep(word: str, size: int, *, ctx: Context) -> str:
        return (await ctx.delegate("dream", word=word, size=size)).text

    @agent.skill
    async def follow(word: str, size: int, *, ctx: Context) -> str:
        ctx.afterwards("nap", {"word": word, "size": 1})
        return word * size

    return agent


def helping_agent() -> Agent:
    """The agent to which the first one delegates."""
    agent = Agent("helper", concurrency=8)

    @agent.skill
    async def dream(word: str, size: int) -> str:
        await asyncio.sleep(3600)
        return word * size

    @agent.skill
    async def nap(word: str, size: int) -> str:
        await asyncio.sleep(size * 0.2)
        return word * size

    return agent
