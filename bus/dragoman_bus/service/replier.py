"""Answers of an instance: encoded within the server's limit, sent from where one cannot wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.errors import DragomanError, PayloadTooLarge
from dragoman_bus.protocol.messages import Envelope
from dragoman_bus.transports.port import Transport

__all__ = ["Replier"]

logger = logging.getLogger("dragoman.service")


class Replier:
    """Sends messages over ``transport``; what cannot be delivered is logged."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._background: set[asyncio.Task[None]] = set()

    def encode(self, message: Envelope) -> bytes:
        """The document of ``message``.

        Raises:
            PayloadTooLarge: the server would not take it.
        """
        document = encode(message)
        if len(document) > self._transport.max_payload:
            raise PayloadTooLarge(
                f"the message has {len(document)} bytes, and the server takes "
                f"{self._transport.max_payload}"
            )
        return document

    def answer(self, reply: str, message: Envelope) -> None:
        """Send ``message`` to a reply subject; nowhere when that is empty.

        Raises:
            PayloadTooLarge: the server would not take it.
        """
        if reply:
            self.run_soon(self._transport.publish(reply, self.encode(message)))

    def run_soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` in the background; its errors are logged."""
        task = asyncio.create_task(self._guard(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except DragomanError as error:
            logger.warning("an answer was not delivered: %s", error)
