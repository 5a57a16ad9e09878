"""Answers to ``$SRV.PING|INFO|STATS``, so that every NATS tool sees an agent as a service.

Spec: spec/nats-binding.md, services; source: NATS ADR-32. nats-py's own responder handles one
request at a time and echoes headers (reference: ADR-32 defects), so this one is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dragoman_bus.transports.port import Delivery, Subscription, Transport

__all__ = ["MicroResponder", "ServiceFacts"]


class ServiceFacts(msgspec.Struct, kw_only=True):
    """What a service says of itself. ``endpoints`` are ``(name, subject, queue)``."""

    name: str
    id: str
    version: str
    description: str
    metadata: dict[str, str]
    endpoints: list[tuple[str, str, str]]
    started: str


class MicroResponder:
    """Subscribes the nine control subjects of one service instance.

    Args:
        transport: The bus.
        facts: What PING and INFO say.
        statistics: For STATS: ``requests``, ``errors``, ``processing_nanoseconds`` and ``data``.
    """

    def __init__(
        self,
        transport: Transport,
        facts: ServiceFacts,
        statistics: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._transport = transport
        self._facts = facts
        self._statistics = statistics
        self._subscriptions: list[Subscription] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Subscribe."""
        for verb, answer in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            for scope in ("", f".{self._facts.name}", f".{self._facts.name}.{self._facts.id}"):
                subscription = await self._transport.subscribe(
                    f"$SRV.{verb}{scope}", self._answer_with(answer)
                )
                self._subscriptions.append(subscription)

    async def stop(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()

    def _answer_with(self, answer: Callable[[], dict[str, Any]]) -> Callable[[Delivery], None]:
        def handle(delivery: Delivery) -> None:
            if delivery.reply:
                data = msgspec.json.encode(answer())
                sending = asyncio.ensure_future(self._transport.publish(delivery.reply, data))
                self._sending.add(sending)
                sending.add_done_callback(self._sending.discard)

        return handle

    def _identity(self, kind: str) -> dict[str, Any]:
        facts = self._facts
        return {
            "type": f"io.nats.micro.v1.{kind}_response",
            "name": facts.name,
            "id": facts.id,
            "version": facts.version,
            "metadata": facts.metadata,
        }

    def _ping(self) -> dict[str, Any]:
        return self._identity("ping")

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {"name": name, "subject": subject, "queue_group": queue, "metadata": {}}
            for name, subject, queue in self._facts.endpoints
        ]
        described = {"description": self._facts.description, "endpoints": endpoints}
        return self._identity("info") | described

    def _stats(self) -> dict[str, Any]:
        numbers = self._statistics()
        requests = int(numbers["requests"])
        spent = int(numbers["processing_nanoseconds"])
        first = {
            "num_requests": requests,
            "num_errors": int(numbers["errors"]),
            "last_error": "",
            "processing_time": spent,
            "average_processing_time": spent // requests if requests else 0,
            "data": numbers["data"],
        }
        nothing = {
            "num_requests": 0,
            "num_errors": 0,
            "last_error": "",
            "processing_time": 0,
            "average_processing_time": 0,
            "data": {},
        }
        # All endpoints lead to one intake; its numbers stand at the first.
        endpoints = [
            {"name": name, "subject": subject, "queue_group": queue}
            | (first if index == 0 else nothing)
            for index, (name, subject, queue) in enumerate(self._facts.endpoints)
        ]
        return self._identity("stats") | {"started": self._facts.started, "endpoints": endpoints}
