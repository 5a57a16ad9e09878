"""An agent that listens on subjects and sends whatever documents a test hands it.

Every request that reaches it is checked against the JSON Schemas as it arrives.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dragoman_bus.transports.port import Delivery, Subscription, Transport
from dragoman_bus.validation import validate_document
from tests.conformance.caller_rules.documents import Documents

__all__ = ["RawAgent", "Request", "strict_document"]


@dataclass(frozen=True)
class Request:
    """One document that a caller sent, and how it came."""

    document: dict[str, Any]
    subject: str
    reply: str
    headers: Mapping[str, str]

    @property
    def kind(self) -> str:
        """The type without its prefix."""
        return str(self.document["type"]).removeprefix("dev.dragoman.")

    @property
    def data(self) -> dict[str, Any]:
        """The body."""
        data: dict[str, Any] = self.document["data"]
        return data

    @property
    def task(self) -> str:
        """The task's id."""
        return str(self.data["taskId"])


def strict_document(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``; a repeated member name or a byte order mark is an error."""
    assert not body.startswith(b"\xef\xbb\xbf")
    document = json.loads(body.decode("utf-8"), object_pairs_hook=_unrepeated)
    assert isinstance(document, dict)
    return document


class RawAgent(Documents):
    """Listens as agent ``agent`` with one instance and one skill."""

    def __init__(
        self,
        transport: Transport,
        *,
        agent: str = "raw",
        instance: str = "raw-1",
        skill: str = "work",
    ) -> None:
        super().__init__(agent, instance)
        self.transport = transport
        self.instance = instance
        self.requests: list[Request] = []
        self.invalid: list[str] = []
        self._shared = (
            (f"dragoman.v1.rpc.{agent}", agent),
            (f"dragoman.v1.skill.{skill}", "skill"),
        )
        self._waiting: asyncio.Queue[Request] = asyncio.Queue()
        self._subscriptions: list[Subscription] = []

    async def start(self) -> RawAgent:
        """Listen."""
        for subject, queue in (*self._shared, (f"dragoman.v1.inst.{self.instance}.*", "")):
            subscription = await self.transport.subscribe(subject, self._take, queue=queue)
            self._subscriptions.append(subscription)
        return self

    async def vanish(self) -> None:
        """Stop listening without a word, as a killed process does."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()
        await self.transport.flush()

    async def expect(self, kind: str, timeout: float = 10) -> Request:
        """The next request, which must be of this kind."""
        request = await asyncio.wait_for(self._waiting.get(), timeout)
        assert request.kind == kind, request.document
        return request

    async def send(
        self, subject: str, /, *documents: dict[str, Any] | bytes, **options: Any
    ) -> None:
        """Publish documents, in this order."""
        for document in documents:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            await self.transport.publish(subject, body, **options)

    def sent(self, kind: str) -> list[Request]:
        """The requests of one kind so far."""
        return [request for request in self.requests if request.kind == kind]

    def _take(self, delivery: Delivery) -> None:
        violations = validate_document(delivery.data)
        self.invalid += [f"{delivery.subject}: {violation}" for violation in violations]
        request = Request(
            strict_document(delivery.data),
            delivery.subject,
            delivery.reply,
            dict(delivery.headers or {}),
        )
        self.requests.append(request)
        self._waiting.put_nowait(request)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    assert len(members) == len(pairs), f"a member is repeated: {pairs}"
    return members
