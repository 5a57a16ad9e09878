"""A caller that publishes whatever documents a test hands it, and keeps every answer.

Every answer is checked against the JSON Schemas as it arrives.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

from dragoman_bus.transports.port import Delivery, Transport
from dragoman_bus.validation import validate_document
from tests.conformance.caller_rules.documents import part
from tests.conformance.caller_rules.raw_agent import strict_document

__all__ = ["ENDINGS", "Answers", "RawCaller", "kind_of", "log_of", "state_of"]

ENDINGS = {
    "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED",
    "TASK_STATE_CANCELED",
    "TASK_STATE_REJECTED",
}
LOG = {"task.status", "task.artifact", "task.final"}


def kind_of(document: dict[str, Any]) -> str:
    """The type without its prefix."""
    return str(document["type"]).removeprefix("dev.dragoman.")


def state_of(document: dict[str, Any]) -> str:
    """The state that a status, a final or a snapshot tells."""
    data = document["data"]
    told = data.get("statusUpdate") or data.get("task") or {}
    return str(told.get("status", {}).get("state", ""))


class Answers:
    """What arrived at one reply subject, in order."""

    def __init__(self, task: str, subject: str) -> None:
        self.task = task
        self.subject = subject
        self.documents: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.nobody = False
        self._more = asyncio.Event()

    def take(self, document: dict[str, Any] | None) -> None:
        """Keep one answer; ``None`` is the server's word that nobody listens."""
        if document is None:
            self.nobody = True
        else:
            self.documents.append(document)
            self.times.append(asyncio.get_running_loop().time())
        self._more.set()

    async def until(
        self, condition: Callable[[list[dict[str, Any]]], Any], timeout: float = 15
    ) -> list[dict[str, Any]]:
        """All documents, as soon as they satisfy ``condition``."""
        async with asyncio.timeout(timeout):
            while not condition(self.documents):
                self._more.clear()
                await self._more.wait()
        return self.documents

    async def first(self, kind: str = "") -> dict[str, Any]:
        """The first document (of a kind)."""

        def fitting(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [one for one in documents if not kind or kind_of(one) == kind]

        return fitting(await self.until(fitting))[0]

    async def end(self) -> dict[str, Any]:
        """The message that tells the terminal state."""
        documents = await self.until(lambda all_of: any(state_of(one) in ENDINGS for one in all_of))
        return next(one for one in documents if state_of(one) in ENDINGS)

    async def silence(self) -> None:
        """Wait until the server says that nobody listens."""
        async with asyncio.timeout(15):
            while not self.nobody:
                self._more.clear()
                await self._more.wait()


def log_of(answers: Answers) -> list[dict[str, Any]]:
    """The messages of the task's log."""
    return [one for one in answers.documents if kind_of(one) in LOG]


class RawCaller:
    """Sends documents as ``/clients/raw``."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.invalid: list[str] = []
        self._inbox = transport.new_inbox()
        self._open: dict[str, Answers] = {}
        self._numbers = itertools.count(1)

    async def start(self) -> RawCaller:
        """Listen for answers."""
        await self.transport.subscribe(f"{self._inbox}.*", self._take)
        return self

    def envelope(self, kind: str, data: dict[str, Any], **attributes: Any) -> dict[str, Any]:
        """A message of ``dev.dragoman.<kind>``."""
        return {
            "specversion": "1.0",
            "id": f"raw-{next(self._numbers)}",
            "source": "/clients/raw",
            "type": f"dev.dragoman.{kind}",
            "time": "2026-11-24T12:00:00Z",
            "protocolversion": "1.0",
            "data": data,
            **attributes,
        }

    def submission(
        self, skill: str, *contents: Any, task: str | None = None, **members: Any
    ) -> dict[str, Any]:
        """A ``task.submit`` whose message has these contents."""
        number = next(self._numbers)
        message = {
            "messageId": f"m-{number}",
            "role": "ROLE_USER",
            "parts": [part(content) for content in contents or ("hello",)],
        }
        data = {"taskId": task or f"task-{number}", "skill": skill, "message": message, **members}
        return self.envelope("task.submit", data)

    async def send(self, subject: str, document: dict[str, Any] | bytes) -> Answers:
        """Publish a document with a reply subject of its own."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        data = {} if isinstance(document, bytes) else document.get("data", {})
        token = f"r{next(self._numbers)}"
        answers = self._open[token] = Answers(data.get("taskId", ""), f"{self._inbox}.{token}")
        await self.transport.publish(subject, body, reply=answers.subject)
        return answers

    async def submit(
        self, skill: str, *contents: Any, subject: str = "", **members: Any
    ) -> Answers:
        """Submit a task to its skill, or to another subject; its stream."""
        return await self.send(
            subject or f"dragoman.v1.skill.{skill}", self.submission(skill, *contents, **members)
        )

    async def tell(self, instance: str, operation: str, data: dict[str, Any]) -> Answers:
        """Send an operation to an instance; its answers."""
        family = "agent" if operation in ("status", "drain") else "task"
        document = self.envelope(f"{family}.{operation}", data)
        return await self.send(f"dragoman.v1.inst.{instance}.{operation}", document)

    async def ask(self, instance: str, operation: str, **data: Any) -> dict[str, Any]:
        """Send an operation to an instance; its one answer."""
        return await (await self.tell(instance, operation, data)).first()

    async def settle(self) -> None:
        """Return when everything the agent had sent by now has arrived here."""
        await self.transport.flush()

    def _take(self, delivery: Delivery) -> None:
        answers = self._open[delivery.subject.rpartition(".")[2]]
        if delivery.no_responders:
            answers.take(None)
            return
        violations = validate_document(delivery.data)
        self.invalid += [f"{delivery.subject}: {violation}" for violation in violations]
        answers.take(strict_document(delivery.data))
