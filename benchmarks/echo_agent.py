"""The agent that says what it is told, at once or in chunks: our side of several benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from benchmarks.measuring import ready

__all__ = ["CHUNK", "serve_echo"]

CHUNK = "y" * 20


async def serve_echo(url: str, *, concurrency: int, chunks: int) -> None:
    """Serve it until the process is ended.

    Args:
        url: The bus.
        concurrency: Tasks at once.
        chunks: How many chunks a stream has.
    """
    from dragoman_agents import Agent, serving
    from dragoman_bus.transports.nats import connect_nats

    agent = Agent("bench", concurrency=concurrency)

    @agent.skill
    async def echo(text: str) -> str:
        return text

    @agent.skill
    async def stream(text: str) -> AsyncIterator[str]:
        for _ in range(chunks):
            yield CHUNK

    async with serving(agent, await connect_nats(url)):
        ready()
        await asyncio.Event().wait()
