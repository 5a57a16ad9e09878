"""The agent that the rules are proven on: each skill shows one thing, and waits for the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from dragoman_agents import Agent, Context
from dragoman_bus.protocol.errors import RemoteError
from dragoman_bus.protocol.payloads import Usage

__all__ = ["Point", "Workshop"]


class Point(msgspec.Struct):
    """A value with a type."""

    x: int
    y: int = 0


class Workshop:
    """An agent, and what its skills did: ``started`` lists the texts, ``release`` ends ``hold``."""

    def __init__(self, name: str = "workshop", *, concurrency: int = 4, queue: int = 4) -> None:
        self.started: list[str] = []
        self.release = asyncio.Event()
        self.agent = agent = Agent(name, concurrency=concurrency, queue=queue)
        for function in (self.echo, self.hold, self.spell, self.say, self.ask, self.lie, self.fail):
            agent.add_skill(function.__name__, function)
        agent.add_skill("move", self.move)

    async def echo(self, text: str) -> str:
        """Say it again."""
        self.started.append(text)
        return text

    async def move(self, point: Point) -> Point:
        """Step right."""
        return Point(point.x + 1, point.y)

    async def hold(self, text: str, *, ctx: Context) -> str:
        """Work until released."""
        self.started.append(text)
        ctx.report_usage(Usage(input_tokens=3, calls=1))
        await ctx.status(f"holding {text}")
        await self.release.wait()
        return text

    async def spell(self, text: str) -> AsyncIterator[str]:
        """Stream letter by letter."""
        for letter in text:
            yield letter

    async def say(self, text: str, *, ctx: Context) -> str:
        """Stream one thing, and answer another."""
        ctx.served_by(provider="none", family="test", model="parrot")
        await ctx.status("thinking")
        await ctx.emit("almost ")
        await ctx.emit(text)
        await self.release.wait()
        return text.upper()

    async def ask(self, text: str, *, ctx: Context) -> str:
        """Ask back."""
        return str(await ctx.ask(f"{text}?"))

    async def lie(self, text: str) -> Point:
        """Break its own contract."""
        return {"x": "far"}  # type: ignore[return-value]

    async def fail(self, text: str, *, ctx: Context) -> str:
        """Use something, then fail."""
        ctx.report_usage(Usage(input_tokens=7, calls=1))
        raise RemoteError(text, code="MODEL_OVERLOADED", retry_after=2.0)
