"""Waiting in tests: for a condition, with a deadline, never for a length of time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

__all__ = ["eventually"]


async def eventually(
    condition: Callable[[], object | Awaitable[object]], timeout: float = 15.0
) -> None:
    """Return as soon as ``condition()`` (or what it returns, awaited) is true; fail if never."""
    async with asyncio.timeout(timeout):
        while True:
            outcome = condition()
            if inspect.isawaitable(outcome):
                outcome = await outcome
            if outcome:
                return
            await asyncio.sleep(0.01)
