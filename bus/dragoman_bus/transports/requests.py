"""Requests over publish and subscribe: one inbox subscription carries the answers to all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from dragoman_bus.protocol.errors import BusUnavailable, NoResponders, RequestTimeout
from dragoman_bus.transports.port import Delivery, Handler, Headers, Subscription

__all__ = ["RequestMultiplexer"]


class _Connection(Protocol):
    def new_inbox(self) -> str: ...

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Headers | None = None
    ) -> None: ...

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = ""
    ) -> Subscription: ...


class _Waiter:
    """One request under way: what it asked, and the future its answer or error resolves."""

    __slots__ = ("deliver", "future", "subject")

    def __init__(
        self, subject: str, future: asyncio.Future[Delivery], deliver: Handler | None
    ) -> None:
        self.subject = subject
        self.future = future
        self.deliver = deliver

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            # Whoever waits still gets it; nobody does when sending failed first.
            self.future.exception()


class RequestMultiplexer:
    """Matches answers to requests by the last token of the reply subject.

    Args:
        connection: What publishes and subscribes; the inbox is made at the first request.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._prefix = ""
        self._opening = asyncio.Lock()
        self._counter = 0
        self._waiters: dict[str, _Waiter] = {}

    async def request(
        self, subject: str, data: bytes, *, timeout: float, headers: Headers | None = None
    ) -> Delivery:
        """Send one request and return its first answer; errors as in ``Transport.request``."""
        answer = await self._exchange(subject, data, timeout, headers, None)
        if answer.no_responders:
            raise NoResponders(f"nobody is subscribed to {subject}")
        return answer

    async def collect(
        self,
        subject: str,
        data: bytes,
        *,
        timeout: float,
        is_last: Callable[[Delivery], bool],
    ) -> tuple[list[Delivery], Delivery]:
        """Send one request and return the answers before, and the one for which ``is_last``.

        Raises:
            NoResponders: Nobody is subscribed to ``subject``.
            RequestTimeout: The last answer did not arrive within ``timeout`` seconds.
        """
        answers: list[Delivery] = []
        future: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()

        def deliver(delivery: Delivery) -> None:
            if future.done():
                return
            if is_last(delivery) or delivery.no_responders:
                future.set_result(delivery)
            else:
                answers.append(delivery)

        last = await self._exchange(subject, data, timeout, None, deliver, future)
        if last.no_responders:
            raise NoResponders(f"nobody is subscribed to {subject}")
        return answers, last

    async def _exchange(
        self,
        subject: str,
        data: bytes,
        timeout: float,
        headers: Headers | None,
        deliver: Handler | None,
        future: asyncio.Future[Delivery] | None = None,
    ) -> Delivery:
        if not self._prefix:
            await self._open()
        loop = asyncio.get_running_loop()
        self._counter += 1
        token = str(self._counter)
        waiter = _Waiter(subject, future or loop.create_future(), deliver)
        self._waiters[token] = waiter
        timer = loop.call_later(timeout, self._expire, waiter, timeout)
        try:
            await self._connection.publish(
                subject, data, reply=self._prefix + token, headers=headers
            )
            return await waiter.future
        finally:
            timer.cancel()
            self._waiters.pop(token, None)

    @staticmethod
    def _expire(waiter: _Waiter, timeout: float) -> None:
        waiter.fail(RequestTimeout(f"no answer from {waiter.subject} within {timeout:g} s"))

    async def _open(self) -> None:
        async with self._opening:
            if self._prefix:
                return
            inbox = self._connection.new_inbox()
            await self._connection.subscribe(f"{inbox}.*", self._receive)
            self._prefix = f"{inbox}."

    def _receive(self, delivery: Delivery) -> None:
        waiter = self._waiters.get(delivery.subject[len(self._prefix) :])
        if waiter is None:
            return
        if waiter.deliver is not None:
            waiter.deliver(delivery)
        elif not waiter.future.done():
            waiter.future.set_result(delivery)

    def refuse(self, subject: str) -> bool:
        """Fail the requests to ``subject``, and say whether there are any.

        Subjects are compared without case: nats-py reports what was refused in lower case.
        """
        refused = [one for one in self._waiters.values() if one.subject.lower() == subject.lower()]
        for waiter in refused:
            words = f"the server does not let this user publish to {waiter.subject}"
            waiter.fail(BusUnavailable(words, code="PERMISSION_DENIED"))
        return bool(refused)

    def close(self) -> None:
        """Fail every request under way with ``BusUnavailable``."""
        for waiter in self._waiters.values():
            words = "the connection was closed before the answer came"
            waiter.fail(BusUnavailable(words, retryable=False))
