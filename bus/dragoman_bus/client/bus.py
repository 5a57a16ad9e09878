"""The client of the bus: submit tasks to skills, discover agents, publish and hear events.

Spec: spec/operations.md. ``connect`` makes a ``Bus``; one is enough for a whole program.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Literal, overload

from dragoman_bus.artifacts import ArtifactStore
from dragoman_bus.client.contracts import check_input
from dragoman_bus.client.conversation import Conversation
from dragoman_bus.client.courier import Courier
from dragoman_bus.client.durable import DurableClient
from dragoman_bus.client.durable_task import DurableTask
from dragoman_bus.client.events import Events, listen, publish_event
from dragoman_bus.client.result import Result
from dragoman_bus.client.scatter import Scatter
from dragoman_bus.client.submission import Submission
from dragoman_bus.client.task import TaskHandle
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.envelopes import Sender, client_source
from dragoman_bus.protocol.errors import AgentUnavailable, BusUnavailable, ProtocolError
from dragoman_bus.protocol.payloads import Contract, SubmitData
from dragoman_bus.protocol.subjects import check_token
from dragoman_bus.registry.directory import Directory
from dragoman_bus.registry.view import AgentView
from dragoman_bus.transports.port import Transport

__all__ = ["Bus", "connect"]

DEFAULT_SERVER = "nats://127.0.0.1:4222"
DEFAULT_MAXIMUM_IN_FLIGHT = 4096
DEFAULT_RETRIES = 5


class Bus:
    """A caller on the bus. Use as an async context manager, or ``start`` and ``close``.

    Args:
        transport: A connected transport; it is closed with the bus when ``owns_transport``.
        name: What others see as the source of messages; a token.
        maximum_in_flight: How many tasks may be open at once.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        name: str = "client",
        maximum_in_flight: int = DEFAULT_MAXIMUM_IN_FLIGHT,
        owns_transport: bool = False,
    ) -> None:
        source = client_source(f"{check_token(name, 'client name')}-{new_identifier()[-12:]}")
        self.transport = transport
        self._owns_transport = owns_transport
        self._courier = Courier(
            transport, Sender(source, time.time, new_identifier), maximum_in_flight
        )
        self._directory: Directory | None = None
        self._directory_lock = asyncio.Lock()
        self._durable: DurableClient | None = None
        self._artifacts: ArtifactStore | None = None

    async def start(self) -> Bus:
        """Open the inbox; the bus itself."""
        await self._courier.start()
        return self

    async def close(self) -> None:
        """Stop following and, if the transport is the bus's own, drain and close it."""
        if self._directory is not None:
            await self._directory.stop()
        await self._courier.stop()
        if self._owns_transport:
            await self.transport.drain()

    async def __aenter__(self) -> Bus:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def in_flight(self) -> int:
        """How many tasks are open."""
        return self._courier.in_flight

    @property
    def invalid_messages(self) -> int:
        """How many messages were dropped because they were not valid or not expected."""
        return self._courier.invalid_messages

    async def directory(self) -> Directory:
        """The live registry, started on first use.

        Raises:
            BusUnavailable: the server has no JetStream.
        """
        async with self._directory_lock:
            if self._directory is None:
                directory = Directory(self.transport)
                await directory.start()
                self._directory = directory
        return self._directory

    async def discover(
        self,
        *,
        agent: str | None = None,
        skill: str | None = None,
        tags: Iterable[str] = (),
        contract: str | None = None,
    ) -> list[AgentView]:
        """The live agents that fit all that is given; ``contract`` is a digest."""
        directory = await self.directory()
        return directory.find(agent=agent, skill=skill, tags=tags, contract=contract)

    @overload
    async def submit(
        self,
        skill: str,
        input: Any,
        *,
        delivery: Literal["durable"],
        retries: int = DEFAULT_RETRIES,
        **options: Any,
    ) -> DurableTask: ...

    @overload
    async def submit(
        self,
        skill: str,
        input: Any,
        *,
        delivery: Literal["direct"] = "direct",
        retries: int = DEFAULT_RETRIES,
        **options: Any,
    ) -> TaskHandle: ...

    async def submit(
        self, skill: str, input: Any, *, retries: int = DEFAULT_RETRIES, **options: Any
    ) -> TaskHandle | DurableTask:
        """Publish a task to a skill, or to one agent's skill.

        Args:
            skill: The skill's id.
            input: Text, any JSON value, or an A2A message.
            retries: How often a refusal for lack of capacity is tried again, within the deadline.
            options: The members of ``Submission``: ``agent``, ``instance``, ``deadline``
                (seconds), ``task_id``, ``context_id``, ``contract`` (a digest or a Contract),
                ``max_tokens``, ``max_cost``, ``max_hops``, ``lineage``, ``flow_window``,
                ``delivery`` (``"direct"``, or ``"durable"``: it survives the death of this program,
                of every worker and of the server), ``class_``, ``ordered``,
                ``maximum_attempts``.

        Raises:
            InvalidInput: the input does not fit the contract, where it is known here.
            ProtocolError: a name is not a token.
            BusUnavailable: the connection is closed.
        """
        submission, data, contract = self._prepare(skill, input, options)
        if submission.delivery == "durable":
            fresh = submission.task_id is None
            return await self.durable.submit(data, contract, fresh=fresh, retries=retries)
        conversation = Conversation(
            self._courier, submission.subject(), data, submission.deadline, retries
        )
        await conversation.submit()
        return TaskHandle(self._courier, conversation, contract)

    async def ask(
        self, skill: str, input: Any, *, retries: int = DEFAULT_RETRIES, **options: Any
    ) -> Result:
        """Submit and wait for the result. Cancelling the caller cancels a direct task.

        Raises:
            DragomanError: whatever ``submit`` and ``TaskHandle.result`` raise.
        """
        if options.get("delivery") == "durable":
            submission, data, contract = self._prepare(skill, input, options)
            fresh = submission.task_id is None
            return await self.durable.ask(data, contract, fresh=fresh, retries=retries)
        task: TaskHandle = await self.submit(skill, input, retries=retries, **options)
        try:
            return await task.result()
        except asyncio.CancelledError:
            task.abandon("the caller was canceled")
            raise

    def _prepare(
        self, skill: str, input: Any, options: dict[str, Any]
    ) -> tuple[Submission, SubmitData, Contract | None]:
        """What is sent, checked against the contract where it is known."""
        submission = Submission(skill=skill, input=input, **options)
        contract = self._contract_for(submission)
        data = submission.data(time.time())
        check_input(contract, data.message)
        return submission, data, contract

    @asynccontextmanager
    async def scatter(
        self,
        skill: str,
        input: Any,
        *,
        agents: Collection[str] | None = None,
        retries: int = DEFAULT_RETRIES,
        **options: Any,
    ) -> AsyncIterator[Scatter]:
        """Put one task to one replica of each agent that has the skill, and take what comes.

        ``async with bus.scatter("answer", "…") as outcomes: async for outcome in outcomes: …``.
        Leaving the block cancels whoever has not finished.

        Args:
            skill: The skill's id.
            input: Text, any JSON value, or an A2A message.
            agents: Only these; default: all that have the skill, those above in the lineage apart.
            retries: How often one agent's refusal for lack of capacity is tried again.
            options: As for ``submit``, apart from ``agent``, ``instance`` and ``delivery``.

        Raises:
            AgentUnavailable: none of ``agents`` is there; while iterating: nobody has the skill.
            InvalidInput, ProtocolError, BusUnavailable: as ``submit`` does.
        """
        submission = Submission(
            skill=skill, input=input, audience=None if agents is None else list(agents), **options
        )
        if submission.delivery != "direct":
            raise ProtocolError("a scattered task is delivered directly, never durable")
        contract = self._contract_for(submission)
        data = submission.data(time.time())
        check_input(contract, data.message)
        expected, absent = await self._expected(submission)
        async with Scatter(
            self._courier, data, submission.deadline, retries, contract, expected, absent
        ) as outcomes:
            yield outcomes

    async def _expected(self, submission: Submission) -> tuple[set[str] | None, set[str]]:
        """Who should answer a scattered task, and who was named but is not there."""
        named = None if submission.audience is None else set(submission.audience)
        above = set(submission.lineage.path) if submission.lineage else set()
        try:
            views = await self.discover(skill=submission.skill)
        except BusUnavailable:
            return named, set()
        live = {view.name for view in views if view.is_ready} - above
        if named is None:
            return live or None, set()
        if not named & live:
            wanted = ", ".join(sorted(named))
            raise AgentUnavailable(f"none of them serves {submission.skill!r} now: {wanted}")
        return named & live, named - live

    @property
    def artifacts(self) -> ArtifactStore:
        """Contents that do not fit into a message (spec/artifacts.md)."""
        if self._artifacts is None:
            self._artifacts = ArtifactStore(self.transport)
        return self._artifacts

    @property
    def durable(self) -> DurableClient:
        """Durable tasks: handles to tasks submitted by anybody, lists, dead letters."""
        if self._durable is None:
            self._durable = DurableClient(self.transport, self._courier.sender)
        return self._durable

    async def publish(self, topic: str, event: str, payload: Any) -> None:
        """Publish an event to whoever listens."""
        await publish_event(self.transport, self._courier.sender, topic, event, payload)

    def listen(self, topic: str, event: str = "*") -> AbstractAsyncContextManager[Events]:
        """Hear the events of a topic: ``async with bus.listen("news") as events``."""
        return listen(self.transport, topic, event)

    def _contract_for(self, submission: Submission) -> Contract | None:
        """The contract to check against: the one given, or the only one the registry shows."""
        if isinstance(submission.contract, Contract):
            return submission.contract
        if self._directory is None:
            return None
        return self._directory.contract(
            submission.skill, agent=submission.agent, digest=submission.contract
        )


@asynccontextmanager
async def connect(server: str | None = None, *, name: str = "client") -> AsyncIterator[Bus]:
    """A bus over NATS: ``async with connect() as bus``.

    Args:
        server: URL of a nats-server, or several separated by commas; default ``NATS_URL``, else
            ``nats://127.0.0.1:4222``.
        name: Shown as the source of messages.

    Raises:
        BusUnavailable: nobody answers there.
    """
    from dragoman_bus.transports.nats import connect_nats

    transport = await connect_nats(server or os.environ.get("NATS_URL") or DEFAULT_SERVER)
    async with Bus(transport, name=name, owns_transport=True) as bus:
        yield bus
