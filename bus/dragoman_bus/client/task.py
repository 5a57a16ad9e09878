"""A task from the caller's side: stream it, await it, cancel it, answer it.

Spec: spec/operations.md. A ``TaskHandle`` is made by ``Bus.submit``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from dragoman_bus.client.contracts import check_output
from dragoman_bus.client.conversation import Conversation
from dragoman_bus.client.courier import Courier
from dragoman_bus.client.result import Result, error_from, result_of
from dragoman_bus.client.stream import Update
from dragoman_bus.client.submission import check_belongs
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import Message, Task, TaskState
from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.contracts import message_for_input, text_of
from dragoman_bus.protocol.errors import (
    AgentLost,
    LocalError,
    NoResponders,
    ProtocolError,
    TaskRejected,
)
from dragoman_bus.protocol.messages import (
    Envelope,
    ErrorMessage,
    TaskCancel,
    TaskGet,
    TaskReply,
    TaskSnapshot,
)
from dragoman_bus.protocol.payloads import CancelData, Contract, GetData, ReplyData
from dragoman_bus.protocol.soundness import reason_of
from dragoman_bus.protocol.subjects import instance_subject

__all__ = ["TaskHandle"]

REQUEST_SECONDS = 5.0


class TaskHandle:
    """A submitted task.

    Read it: either iterate over its updates, or await ``result()``, or first one and then the
    other. An agent that streams stops when nobody reads (flow control).
    """

    def __init__(
        self, courier: Courier, conversation: Conversation, contract: Contract | None
    ) -> None:
        self._courier = courier
        self._conversation = conversation
        self._contract = contract
        self._iterating = False

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self._conversation.data.task_id

    @property
    def agent(self) -> str | None:
        """Who works on it, once known."""
        return self._conversation.agent

    @property
    def instance(self) -> str | None:
        """Which instance works on it, once known."""
        return self._conversation.instance

    @property
    def state(self) -> TaskState:
        """The state as far as it is known here."""
        return self._conversation.stream.fold.state

    @property
    def task(self) -> Task:
        """The A2A task as far as it is known here."""
        return self._conversation.stream.fold.task()

    @property
    def question(self) -> str | None:
        """The question of a task in ``TASK_STATE_INPUT_REQUIRED``."""
        words = self._conversation.stream.fold.status.message
        if self.state is not TaskState.INPUT_REQUIRED or isinstance(words, msgspec.UnsetType):
            return None
        return text_of(words.parts)

    async def __aiter__(self) -> AsyncIterator[Update]:
        """A2A status and artifact updates in order, without gaps, up to and with the end.

        Raises:
            AgentLost, AgentUnavailable, DeadlineExceeded, …: when the stream cannot end.
                A task that ends in failure ends the iteration; ``result()`` then raises.
        """
        conversation = self._conversation
        self._iterating = True
        try:
            while True:
                while conversation.stream.has_unread:
                    yield conversation.read()
                if conversation.error is not None:
                    raise conversation.error
                if conversation.ended:
                    return
                await conversation.changed()
        finally:
            self._iterating = False

    async def result(self) -> Result:
        """Wait for the end.

        Raises:
            TaskFailed, TaskCanceled, TaskRejected: the task ended so, or was refused.
            AgentUnavailable, AgentLost, Overloaded: nobody does it, or nobody did.
            DeadlineExceeded: it did not end in time.
            LocalError: ``INPUT_REQUIRED`` when it waits for a reply and nobody iterates;
                ``reply`` and await again.
        """
        conversation = self._conversation
        if not self._iterating:
            conversation.read_only_result()
        while not conversation.ended:
            if conversation.waits_for_reply and not self._iterating:
                raise LocalError(
                    f"the task asks: {self.question or 'for input'}",
                    code="INPUT_REQUIRED",
                    task_id=self.task_id,
                )
            await conversation.changed()
        if conversation.error is not None:
            raise conversation.error
        result = result_of(conversation.stream.fold)
        check_output(self._contract, result)
        return result

    async def cancel(self, reason: str = "") -> TaskState:
        """Stop the task and wait for its terminal state, which is returned.

        A task that ended before the cancellation arrived keeps the state it ended in.

        Raises:
            AgentLost: the instance left the bus, so nothing is left to cancel.
        """
        if not self._conversation.ended:
            data = CancelData(task_id=self.task_id, reason=reason_of(reason))
            await self._request("cancel", self._courier.sender.wrap(TaskCancel, data))
            if not self._iterating:
                self._conversation.read_only_result()
        while not self._conversation.ended:
            await self._conversation.changed()
        if isinstance(self._conversation.error, AgentLost):
            raise self._conversation.error
        return self.state

    async def reply(self, value: Any) -> None:
        """Answer the task's question with text, a JSON value, or an A2A message.

        Raises:
            InvalidInput: a message of another task, context or role.
            TaskRejected: ``TASK_NOT_WAITING`` when it asked nothing.
            AgentLost: the instance left the bus.
        """
        message = (
            value if isinstance(value, Message) else message_for_input(new_identifier(), value)
        )
        check_belongs(message, self.task_id, self._conversation.stream.fold.context_id)
        data = ReplyData(task_id=self.task_id, message=message)
        await self._request("reply", self._courier.sender.wrap(TaskReply, data))
        self._conversation.answered()

    async def get(self) -> Task:
        """The task as the agent has it now.

        Raises:
            AgentLost: the instance left the bus.
            TaskRejected: ``TASK_NOT_FOUND`` when it no longer remembers the task.
        """
        if self._conversation.ended:
            return self.task
        data = GetData(task_id=self.task_id)
        return (await self._request("get", self._courier.sender.wrap(TaskGet, data))).data.task

    def abandon(self, reason: str = "the caller left") -> None:
        """Tell the agent to stop, without waiting for it."""
        if not self._conversation.ended:
            self._conversation.cancel_soon(reason)

    async def _request(self, operation: str, message: Envelope) -> TaskSnapshot:
        instance = await self._known_instance()
        subject = instance_subject(instance, operation)
        try:
            delivery = await self._courier.transport.request(
                subject, encode(message), timeout=REQUEST_SECONDS
            )
        except NoResponders:
            raise AgentLost(f"instance {instance} has left the bus", task_id=self.task_id) from None
        answer = decode(delivery.data)
        if isinstance(answer, TaskSnapshot):
            return answer
        if isinstance(answer, ErrorMessage):
            raise error_from(answer.data.error, TaskRejected, self.task_id)
        raise ProtocolError(f"{operation} was answered by a message of another kind")

    async def _known_instance(self) -> str:
        """The instance that works on it; before its first message nobody knows (spec: cancel)."""
        conversation = self._conversation
        while conversation.instance is None:
            # The ticker ends the conversation when no first message comes, so this ends too.
            if conversation.error is not None:
                raise conversation.error
            await conversation.changed()
        return conversation.instance
