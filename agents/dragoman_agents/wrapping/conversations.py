"""What an agent remembers of its conversations: the latest ones, in this process.

A conversation's turns come one after another, since two at once would each lose what the other
said.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["Conversation", "Conversations"]


class Conversation:
    """One conversation; ``memory`` is whatever its driver keeps, ``None`` at the beginning."""

    def __init__(self) -> None:
        self.memory: Any = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def is_idle(self) -> bool:
        """Whether no task takes part in it now."""
        return self._waiting == 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turns before, then hold the conversation."""
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1


class Conversations:
    """At most ``limit`` conversations that nobody takes part in; the oldest are forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[str, Conversation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    @asynccontextmanager
    async def turn(self, context_id: str) -> AsyncIterator[Conversation]:
        """Take a turn in a conversation. What is put into its memory stays for the next one."""
        conversation = self._known.setdefault(context_id, Conversation())
        self._known.move_to_end(context_id)
        try:
            async with conversation.turn():
                yield conversation
        finally:
            self._forget()

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()

    def _forget(self) -> None:
        idle = [id for id, conversation in self._known.items() if conversation.is_idle]
        for context_id in idle[: max(0, len(idle) - self._limit)]:
            del self._known[context_id]
