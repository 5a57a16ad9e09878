"""Fills the free slots of an instance from its queues, each message at once or not at all.

Spec: spec/durable.md, DUR-10. A slot can be filled from any queue, so all are asked while one is
free, and more may come than there are slots. What is too much is held for a moment and then sent
back. The server counts that as a delivery, so it must stay rare: where it happened, the queues are
asked one after the other for a while.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable

from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.transports.streams import Pulled, Puller

__all__ = ["Filling"]

logger = logging.getLogger("dragoman.service")

HOLD_SECONDS = 0.25
CROWDED_SECONDS = 5.0
STAGGER_SECONDS = 0.005
BATCH_FIRST_EVERY = 4


class Filling:
    """What is asked of the queues, and what of the answers can begin.

    Args:
        free: How many slots are free now.
        begin: Takes a message into one of them, which is not free from then on.
    """

    def __init__(self, free: Callable[[], int], begin: Callable[[Pulled], None]) -> None:
        self._free = free
        self._begin = begin
        self._pullers: list[Puller] = []
        self._turn = 0
        self._share: int | None = None
        self._crowded_until = 0.0
        self._held: deque[Pulled] = deque()
        self._asking: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Future[None]] = set()

    def add(self, puller: Puller) -> None:
        """Another queue; its messages go to ``receive``."""
        self._pullers.append(puller)
        self._share = None

    async def close(self) -> None:
        """Ask for nothing more, and send back what has not begun."""
        self._stop_asking()
        while self._pullers:
            await _quietly(self._pullers.pop().close())
        while self._held:
            await _quietly(self._held.popleft().reject())

    def fill(self) -> None:
        """Fill the free slots with what is held here, and else from the queues."""
        while self._held and self._free():
            self._begin(self._held.popleft())
        self._stop_asking()
        free, queues = self._free(), len(self._pullers)
        # Each is asked for its share, and for one at least.
        share = min(free, max(1, free // max(1, queues)))
        if share == self._share:
            return  # every direct task changes the slots twice, and rarely what is asked
        self._share = share
        pullers = self._pullers
        if 0 < free < queues:
            pullers = self._in_turn()
            if time.monotonic() < self._crowded_until:
                self._share = None
                self._ask_one_by_one(pullers)
                return
        for puller in pullers:
            puller.want(share)

    def receive(self, pulled: Pulled) -> None:
        """Begin a message, or hold it until a slot is free; then another worker is to have it."""
        self._share = None
        if self._free():
            self._begin(pulled)
            self.fill()
            return
        self._crowded_until = time.monotonic() + CROWDED_SECONDS
        self._held.append(pulled)
        asyncio.get_running_loop().call_later(HOLD_SECONDS, self._send_back, pulled)

    def _send_back(self, pulled: Pulled) -> None:
        if pulled in self._held:
            self._held.remove(pulled)
            rejecting = _quietly(pulled.reject(delay=random.uniform(0.0, HOLD_SECONDS)))
            returning = asyncio.ensure_future(rejecting)
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _ask_one_by_one(self, pullers: list[Puller]) -> None:
        """Ask one queue, and a moment later the next, unless the slot was taken meanwhile."""
        if pullers:
            pullers[0].want(1)
            self._asking = asyncio.get_running_loop().call_later(
                STAGGER_SECONDS, self._ask_one_by_one, pullers[1:]
            )

    def _in_turn(self) -> list[Puller]:
        """The queues in the order in which they are asked, which is mostly that of the answers.

        The first one changes, so that none waits for ever; batches come behind the others, except
        every fourth time.
        """
        self._turn += 1
        # Counted apart, so that each kind comes round to all of its queues.
        for_batch = self._turn // BATCH_FIRST_EVERY
        batch = [puller for puller in self._pullers if puller.queue.endswith("-batch")]
        first = [puller for puller in self._pullers if puller not in batch]
        parts = [_rotated(first, self._turn - for_batch), _rotated(batch, for_batch)]
        if self._turn % BATCH_FIRST_EVERY == 0:
            parts.reverse()
        return [*parts[0], *parts[1]]


def _rotated(pullers: list[Puller], by: int) -> list[Puller]:
    start = by % len(pullers) if pullers else 0
    return [*pullers[start:], *pullers[:start]]


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except DragomanError as error:
        logger.info("a queued task was not sent back, it comes again: %s", error)
