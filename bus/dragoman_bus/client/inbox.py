"""One subscription for all answers of a client: a number in the subject finds the task.

Spec: spec/nats-binding.md, inboxes. A subscription per task would cost the server and the client
more than the task itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from dragoman_bus.transports.port import Delivery, Subscription, Transport

__all__ = ["Inbox"]


class Inbox:
    """Routes deliveries on ``<inbox>.<number>`` to whoever opened the number."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._prefix = transport.new_inbox()
        self._offset = len(self._prefix) + 1
        self._numbers = itertools.count(1)
        self._handlers: dict[str, Callable[[Delivery], None]] = {}
        self._subscription: Subscription | None = None
        self.unclaimed = 0

    async def start(self) -> None:
        """Subscribe."""
        self._subscription = await self._transport.subscribe(f"{self._prefix}.*", self._route)

    async def stop(self) -> None:
        """Unsubscribe; whatever still arrives is dropped."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        self._handlers.clear()

    def open(self, handler: Callable[[Delivery], None]) -> str:
        """A reply subject whose deliveries go to ``handler`` until it is closed."""
        number = str(next(self._numbers))
        self._handlers[number] = handler
        return f"{self._prefix}.{number}"

    def close(self, subject: str) -> None:
        """Stop routing ``subject``; late deliveries are counted and dropped."""
        self._handlers.pop(subject[self._offset :], None)

    def _route(self, delivery: Delivery) -> None:
        handler = self._handlers.get(delivery.subject[self._offset :])
        if handler is None:
            self.unclaimed += 1
        else:
            handler(delivery)
