"""Reads again what a node of a cluster may not have yet.

A replicated stream is read from any of its nodes, and the one that answers may be behind what
others have been told is stored. Only what is missing is waited for, and not for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["seen"]

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)

Found = TypeVar("Found")


async def seen(look: Callable[[], Awaitable[Found]], is_there: Callable[[Found], bool]) -> Found:
    """What ``look`` finds once it ``is_there``; in the end, whatever it finds."""
    found = await look()
    for pause in PAUSES:
        if is_there(found):
            break
        await asyncio.sleep(pause)
        found = await look()
    return found
