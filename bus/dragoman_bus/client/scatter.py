"""One task for one replica of each agent: sent once, answered by each, told apart by who speaks.

Spec: spec/operations.md, scatter. Leaving the scatter cancels whoever has not finished, also those
whose first message comes only then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Collection
from types import TracebackType

import msgspec

from dragoman_bus.client.contracts import check_output
from dragoman_bus.client.conversation import Conversation
from dragoman_bus.client.courier import Courier
from dragoman_bus.client.result import Result, result_of
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.envelopes import parse_source
from dragoman_bus.protocol.errors import (
    AgentLost,
    AgentUnavailable,
    DragomanError,
    LocalError,
    ProtocolError,
    RemoteError,
)
from dragoman_bus.protocol.messages import TaskSubmit
from dragoman_bus.protocol.payloads import Contract, SubmitData, Usage
from dragoman_bus.protocol.subjects import agent_subject, ask_subject
from dragoman_bus.tracing import current_trace
from dragoman_bus.transports.port import Delivery

__all__ = ["Scatter", "ScatterOutcome"]

logger = logging.getLogger("dragoman.client")

GATHER_SECONDS = 2.0
"""How long the first message of an agent may take (the spec gives agents one second)."""
STOPPED = "the caller has what it needs"
"""Why those are canceled that have not finished when the scatter is left."""


class ScatterOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the task at one agent: a result, or an error.

    ``instance`` is ``None`` when nobody knows which replica would have had the task.
    """

    agent: str
    instance: str | None = None
    result: Result | None = None
    error: DragomanError | None = None

    @property
    def usage(self) -> Usage | None:
        """What the agent used, however it ended; ``None`` when it did not say."""
        if self.result is not None:
            return self.result.usage
        return self.error.task_usage if isinstance(self.error, RemoteError) else None


class Scatter:
    """A scattered task. Enter it to send it, iterate over the outcomes, leave it to stop the rest.

    Made by ``Bus.scatter``.

    Args:
        courier: Sends and watches.
        data: What is submitted.
        deadline: Seconds from now.
        retries: How often one agent's refusal for lack of capacity is tried again there.
        contract: What outputs are held against.
        expected: Agents that should answer; one that stays silent counts as lost. ``None``: whoever
            speaks up in time.
        absent: Agents that were named and are not on the bus.
    """

    def __init__(
        self,
        courier: Courier,
        data: SubmitData,
        deadline: float,
        retries: int,
        contract: Contract | None,
        expected: Collection[str] | None,
        absent: Collection[str] = (),
    ) -> None:
        self.data = data
        self._courier = courier
        self._deadline = deadline
        self._retries = retries
        self._contract = contract
        self._expected = None if expected is None else set(expected)
        self._branches: dict[str, Conversation] = {}
        self._told: set[str] = set()
        self._ready: deque[ScatterOutcome] = deque()
        self._loop = asyncio.get_running_loop()
        self._sent_at = 0.0
        self._closed_at: float | None = None
        self._error: DragomanError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reply = ""
        for agent in absent:
            self._tell(agent, AgentUnavailable(f"agent {agent} is not on the bus"))

    async def __aenter__(self) -> Scatter:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(STOPPED)

    async def start(self) -> None:
        """Send the task.

        Raises:
            BusUnavailable: the connection is closed.
        """
        self._reply = self._courier.inbox.open(self._receive)
        try:
            self._courier.watch(self)
            self._sent_at = self._loop.time()
            message = self._courier.sender.wrap(
                TaskSubmit, self.data, id=self.data.task_id, trace=current_trace()
            )
            subject = ask_subject(self.data.skill)
            await self._courier.send(subject, message, reply=self._reply)
        except BaseException:
            self._forget()
            raise

    def close(self, reason: str) -> None:
        """Cancel whoever has not finished, without waiting for them."""
        if self._closed_at is not None:
            return
        self._closed_at = self._loop.time()
        for conversation in self._branches.values():
            if not conversation.ended:
                conversation.cancel_soon(reason)
        self._forget_if_heard()
        self._wake()

    async def settle(self, seconds: float) -> list[ScatterOutcome]:
        """Stop, and wait at most so long for the ends of those who had not finished.

        What they used until they were canceled is known then.
        """
        self.close(STOPPED)
        late: list[ScatterOutcome] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self._collect()
                    late += self._ready
                    self._ready.clear()
                    if not self.pending:
                        break
                    self._waiter = self._loop.create_future()
                    await self._waiter
        return late

    @property
    def pending(self) -> frozenset[str]:
        """Agents that are known and have not finished."""
        return frozenset(self._branches.keys() - self._told | self._missing())

    def __aiter__(self) -> AsyncIterator[ScatterOutcome]:
        return self

    async def __anext__(self) -> ScatterOutcome:
        """The next agent's outcome, as they come in.

        Raises:
            AgentUnavailable: nobody on the bus offers the skill.
            AgentLost: somebody does, and nobody spoke up in time.
        """
        while True:
            self._collect()
            if self._ready:
                return self._ready.popleft()
            if self._error is not None:
                raise self._error
            if self._is_complete():
                if not self._told:
                    raise AgentLost(f"nobody answered for {self.data.skill!r}")
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter

    def tick(self, now: float) -> None:
        """Judge who is late; the courier calls it a few times a second."""
        if self._closed_at is not None:
            if now - self._closed_at > GATHER_SECONDS:
                self._forget()
            return
        if now - self._sent_at > GATHER_SECONDS:
            for agent in sorted(self._missing()):
                silence = f"nothing came back from {agent} within {GATHER_SECONDS:g} s"
                self._tell(agent, AgentLost(silence, side_effects="possible"))
            self._wake()

    def resume(self) -> None:
        """The connection came back; each agent's conversation asks for what it missed."""

    def _missing(self) -> set[str]:
        """Agents that were expected and did not say anything."""
        return set(self._expected or ()) - self._branches.keys() - self._told

    def _is_complete(self) -> bool:
        if self._closed_at is not None:
            return True
        if self._branches.keys() - self._told or self._missing():
            return False
        return self._expected is not None or self._loop.time() - self._sent_at > GATHER_SECONDS

    def _receive(self, delivery: Delivery) -> None:
        if delivery.no_responders:
            self._error = AgentUnavailable(
                f"nobody on the bus serves {self.data.skill!r} now", task_id=self.data.task_id
            )
            self._wake()
            return
        try:
            message = decode(delivery.data)
        except ProtocolError as error:
            self._courier.invalid_messages += 1
            logger.warning("an invalid message for task %s: %s", self.data.task_id, error)
            return
        sender = parse_source(message.source)
        if sender is None or not self._is_invited(sender[0]):
            self._courier.invalid_messages += 1
            logger.warning("task %s: %s was not asked", self.data.task_id, message.source)
            return
        agent = sender[0]
        conversation = self._branches.get(agent) or self._branch(agent)
        if conversation is not None:
            conversation.take(message)

    def _is_invited(self, agent: str) -> bool:
        audience = self.data.audience
        return isinstance(audience, msgspec.UnsetType) or agent in audience

    def _branch(self, agent: str) -> Conversation | None:
        """The conversation with an agent that speaks for the first time."""
        if agent in self._told:
            return None
        remaining = self._deadline - (self._loop.time() - self._sent_at)
        # Its own reply subject serves for what only this agent is asked: to repeat, to resend.
        branch = Conversation(
            self._courier, agent_subject(agent), self.data, remaining, self._retries
        )
        branch.on_change = self._wake
        branch.read_only_result()
        try:
            branch.follow()
        except DragomanError as error:
            self._tell(agent, error)
            return None
        self._branches[agent] = branch
        if self._closed_at is not None:
            branch.cancel_soon(STOPPED)
        return branch

    def _collect(self) -> None:
        """Make outcomes of conversations that have ended since."""
        for agent, conversation in self._branches.items():
            if agent in self._told:
                continue
            if conversation.waits_for_reply:
                conversation.cancel_soon("nobody answers questions of a scattered task")
                self._tell(agent, LocalError("the agent asks for input", code="INPUT_REQUIRED"))
            elif conversation.ended:
                self._told.add(agent)
                self._ready.append(self._outcome(agent, conversation))

    def _outcome(self, agent: str, conversation: Conversation) -> ScatterOutcome:
        try:
            if conversation.error is not None:
                raise conversation.error
            result = result_of(conversation.stream.fold)
            check_output(self._contract, result)
        except DragomanError as error:
            return ScatterOutcome(agent=agent, instance=conversation.instance, error=error)
        return ScatterOutcome(agent=agent, instance=conversation.instance, result=result)

    def _tell(self, agent: str, error: DragomanError) -> None:
        error.task_id = self.data.task_id
        self._told.add(agent)
        self._ready.append(ScatterOutcome(agent=agent, error=error))

    def _forget_if_heard(self) -> None:
        """Listen no longer once all have been heard to the end."""
        all_spoke = self._expected is not None and not self._missing()
        all_ended = all(conversation.ended for conversation in self._branches.values())
        if self._error is not None or (all_spoke and all_ended):
            self._forget()

    def _forget(self) -> None:
        self._courier.forget(self)
        self._courier.inbox.close(self._reply)

    def _wake(self) -> None:
        if self._closed_at is not None:
            self._forget_if_heard()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
