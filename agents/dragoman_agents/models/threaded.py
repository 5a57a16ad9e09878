"""Blocking calls made in threads of their own, their items taken on the event loop.

A library that computes in the process blocks whoever calls it. Here each call has a thread, at
most ``slots`` run at once, and a call is told to stop as soon as nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["Offer", "Produce", "ThreadedCalls"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

Offer: TypeAlias = Callable[[Item], bool]
"""Hands over an item, from the thread; false says to stop, because nobody waits any more."""

Produce: TypeAlias = Callable[[Offer[Item]], None]
"""A blocking call that offers its items as they come and returns after the last."""


class ThreadedCalls:
    """At most ``slots`` blocking calls at once; more wait, and can be cancelled while they do.

    Args:
        slots: How many threads.
        name: The beginning of their names.
    """

    def __init__(self, slots: int, name: str) -> None:
        self._free = asyncio.Semaphore(slots)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix=f"dragoman-{name}")
        self._running: dict[_Call[Any], asyncio.Future[None]] = {}

    @property
    def running(self) -> int:
        """How many threads are at work now, those that were told to stop included."""
        return len(self._running)

    async def stream(self, produce: Produce[Item]) -> AsyncGenerator[Item, None]:
        """The items of ``produce`` as they come; leaving early tells it to stop.

        The slot is free again when the thread has ended, which is not waited for.

        Raises:
            Exception: whatever ``produce`` raises.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        call: _Call[Item] = _Call(loop)
        future = loop.run_in_executor(self._threads, call.run, produce)
        self._running[call] = future
        future.add_done_callback(lambda _: self._ended(call))
        try:
            while (found := await call.items.get()) is not None:
                for item in found:
                    yield item
            await asyncio.shield(future)
        finally:
            call.stopped = True

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """The value of ``work``, computed in a thread; it cannot be stopped, only abandoned."""

        def produce(offer: Offer[Answer]) -> None:
            offer(work())

        async with aclosing(self.stream(produce)) as items:
            return await anext(items)

    async def aclose(self) -> None:
        """Tell all calls to stop and wait for their threads."""
        for call in self._running:
            call.stopped = True
        if self._running:
            await asyncio.wait(tuple(self._running.values()))
        self._threads.shutdown(wait=False)

    def _ended(self, call: _Call[Any]) -> None:
        future = self._running.pop(call)
        self._free.release()
        if not future.cancelled():
            future.exception()  # looked at, so that asyncio does not complain when nobody waits


class _Call(Generic[Item]):
    """One call: the thread's end and the loop's end of a queue."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stopped = False
        self.items: asyncio.Queue[tuple[Item] | None] = asyncio.Queue()
        self._loop = loop

    def run(self, produce: Produce[Item]) -> None:
        """In the thread: produce, then say that there is no more, however it ended."""
        try:
            if not self.stopped:
                produce(self._offer)
        finally:
            self._tell(None)

    def _offer(self, item: Item) -> bool:
        if not self.stopped:
            self._tell((item,))
        return not self.stopped

    def _tell(self, item: tuple[Item] | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self.items.put_nowait, item)
        except RuntimeError:  # the loop is closed, so nobody waits
            self.stopped = True
