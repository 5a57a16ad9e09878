"""An agent that does exactly what a test tells it to, message by message."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from msgspec import UNSET

from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import (
    Artifact,
    Message,
    Role,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
    text_part,
)
from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.protocol.messages import (
    AnyMessage,
    ErrorMessage,
    TaskArtifact,
    TaskFinal,
    TaskSnapshot,
    TaskStatusUpdate,
)
from dragoman_bus.protocol.payloads import (
    ArtifactData,
    ErrorData,
    ErrorObject,
    FinalData,
    SnapshotData,
    StatusData,
)
from dragoman_bus.protocol.subjects import (
    agent_subject,
    ask_subject,
    instance_subject,
    skill_subject,
)
from dragoman_bus.transports.port import Delivery, Transport


class ScriptedAgent:
    """Receives requests into a queue; the test answers them one message at a time."""

    def __init__(self, transport: Transport, name: str = "scripted") -> None:
        self.transport = transport
        self.name = name
        self.instance = f"{name}-{new_identifier()[-12:]}"
        self.sender = Sender(agent_source(name, self.instance), time.time, new_identifier)
        self.received: asyncio.Queue[tuple[AnyMessage, Delivery]] = asyncio.Queue()
        self._subscriptions: list[Any] = []

    async def start(self, skill: str = "work") -> ScriptedAgent:
        for subject, queue in (
            (agent_subject(self.name), self.name),
            (skill_subject(skill), "skill"),
            (ask_subject(skill), self.name),
            (instance_subject(self.instance, "*"), ""),
        ):
            self._subscriptions.append(
                await self.transport.subscribe(subject, self._take, queue=queue)
            )
        return self

    async def vanish(self) -> None:
        """Stop serving without a word, as a killed process does."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()

    async def expect(self, kind: type[Any]) -> tuple[Any, Delivery]:
        """The next request, which must be of ``kind``."""
        message, delivery = await asyncio.wait_for(self.received.get(), 10)
        assert isinstance(message, kind), message
        return message, delivery

    async def send(self, reply: str, message: Any) -> None:
        await self.transport.publish(reply, encode(message))

    def status(
        self, task: str, sequence: int, state: TaskState, words: str = "", **members: Any
    ) -> TaskStatusUpdate:
        event = self._event(task, state, words)
        data = StatusData(status_update=event, sequence=sequence, **{"attempt": 1, **members})
        return self.sender.wrap(TaskStatusUpdate, data)

    def chunk(self, task: str, sequence: int, text: str) -> TaskArtifact:
        event = TaskArtifactUpdateEvent(
            task_id=task,
            context_id=task,
            artifact=Artifact(artifact_id="output", parts=[text_part(text)]),
            append=True,
        )
        data = ArtifactData(artifact_update=event, sequence=sequence, attempt=1)
        return self.sender.wrap(TaskArtifact, data)

    def final(
        self,
        task: str,
        sequence: int,
        text: str | None = None,
        state: TaskState = TaskState.COMPLETED,
        **members: Any,
    ) -> TaskFinal:
        if text is not None:
            members["artifacts"] = [Artifact(artifact_id="output", parts=[text_part(text)])]
        data = FinalData(
            status_update=self._event(task, state), sequence=sequence, attempt=1, **members
        )
        return self.sender.wrap(TaskFinal, data)

    def snapshot(
        self, task: str, sequence: int, texts: list[str], state: TaskState = TaskState.WORKING
    ) -> TaskSnapshot:
        artifacts = [Artifact(artifact_id="output", parts=[text_part(text) for text in texts])]
        data = SnapshotData(
            task=Task(
                id=task,
                context_id=task,
                status=TaskStatus(state=state),
                artifacts=artifacts if texts else UNSET,
            ),
            sequence=sequence,
            attempt=1,
        )
        return self.sender.wrap(TaskSnapshot, data)

    def error(self, code: str, task: str | None = None, **members: Any) -> ErrorMessage:
        data = ErrorData(
            error=ErrorObject(
                **{
                    "code": code,
                    "message": f"scripted {code}",
                    "retryable": True,
                    "side_effects": "none",
                    **members,
                }
            ),
            task_id=task or UNSET,
        )
        return self.sender.wrap(ErrorMessage, data)

    def _event(self, task: str, state: TaskState, words: str = "") -> TaskStatusUpdateEvent:
        message = (
            Message(message_id=f"{task}-q", role=Role.AGENT, parts=[text_part(words)])
            if words
            else UNSET
        )
        status = TaskStatus(state=state, message=message)
        return TaskStatusUpdateEvent(task_id=task, context_id=task, status=status)

    def _take(self, delivery: Delivery) -> None:
        self.received.put_nowait((decode(delivery.data), delivery))
