"""An agent that takes its time: it reads a text aloud, a line at a time.

    dragoman run examples/recite.py:agent --replicas 2

Ask it with `--durable`, kill the process that reads, and hear the other one go on.
"""

import asyncio

from dragoman_agents import Agent, Context

agent = Agent("reader", description="Reads texts aloud, line by line")


@agent.skill(tags=["text"])
async def recite(text: str, pause: float = 0.2, *, ctx: Context) -> str:
    """Reads a text aloud at a human pace."""
    for line in text.splitlines(keepends=True):
        await ctx.emit(line)
        await asyncio.sleep(min(pause, 5.0))
    return text
