"""What a running skill sees of its task: emit, ask, delegate, report.

Spec: spec/operations.md; spec/model.md, limits and lineage.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from dragoman_agents.usage import (
    add_usage,
    check_limits,
    remaining_cost,
    remaining_hops,
    remaining_tokens,
)
from dragoman_bus.artifacts import ArtifactStore
from dragoman_bus.client import Bus, Result, Submission
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import Artifact, Message, Part, Role, TaskState, text_part
from dragoman_bus.protocol.contracts import OUTPUT_ARTIFACT, input_from_message, text_of
from dragoman_bus.protocol.errors import LocalError, RemoteError, TaskFailed
from dragoman_bus.protocol.payloads import Cost, EventData, Lineage, ModelIdentity, Usage
from dragoman_bus.protocol.receipts import EnsembleReceipt
from dragoman_bus.protocol.soundness import check_sound, check_text
from dragoman_bus.service import Job
from dragoman_bus.tracing import current_trace

__all__ = ["Context"]

LONGEST_HELD_SECONDS = 0.002
"""Pieces that a skill emits faster than that may leave together."""


class Context:
    """One task, from the inside of its skill.

    Attributes:
        reason: Why this agent or that member answered; goes into the receipt.
        candidates: Who could have answered; goes into the receipt.
        account: How an ensemble came to its answer; goes into the receipt.
    """

    def __init__(self, job: Job, agent: str, bus: Bus) -> None:
        self._job = job
        self._agent = agent
        self._bus = bus
        self.model: ModelIdentity | None = None
        self.reason: str | None = None
        self.candidates: list[str] | None = None
        self.account: EnsembleReceipt | None = None
        self.emitted: list[str] = []
        self.has_emitted = False
        self._waited_at = 0.0

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self._job.task_id

    @property
    def agent(self) -> str:
        """The name of the agent that runs the task."""
        return self._agent

    @property
    def context_id(self) -> str:
        """The conversation the task belongs to."""
        return self._job.stream.fold.context_id

    @property
    def attempt(self) -> int:
        """Which run of the task this is, from 1; only durable tasks are run again."""
        return self._job.attempt

    @property
    def message(self) -> Message:
        """The whole A2A message of the request."""
        return self._job.data.message

    @property
    def deadline(self) -> float | None:
        """Seconds that remain; ``None`` without a deadline."""
        return self._job.remaining()

    @property
    def usage(self) -> Usage | None:
        """What the task has used, as far as it was reported."""
        return self._job.usage

    @property
    def remaining_tokens(self) -> int | None:
        """Tokens that the task may still use; ``None`` without a limit."""
        return remaining_tokens(self._job.data.limits, self.usage)

    @property
    def remaining_cost(self) -> Cost | None:
        """Money that the task may still spend; ``None`` without a limit."""
        return remaining_cost(self._job.data.limits, self.usage)

    @property
    def trace_headers(self) -> dict[str, str]:
        """``traceparent`` and ``tracestate`` for calls made on behalf of the task.

        They are those of the active OpenTelemetry span, if there is one, else of the request.
        """
        trace = current_trace() or self._job.trace
        return {} if trace is None else trace.headers()

    @property
    def canceled(self) -> bool:
        """Whether the task was canceled; for functions in threads, which cannot be interrupted."""
        return self._job.cancel_reason is not None

    async def emit(self, content: str | Part) -> None:
        """Stream a piece of the output; waits when the caller does not keep up.

        Raises:
            TypeError: it is neither text nor a part.
            ValueError: it cannot be sent; says why.
        """
        if isinstance(content, Part):
            check_sound(content, "a part of the output")
            part = content
        else:
            check_text(content, "a piece of the output")
            self.emitted.append(content)
            part = text_part(content)
        await self._job.stream.artifact(
            Artifact(artifact_id=OUTPUT_ARTIFACT, parts=[part]), append=self.has_emitted
        )
        self.has_emitted = True
        if time.monotonic() - self._waited_at > LONGEST_HELD_SECONDS:
            # Sending is a matter of the event loop, which a skill may keep busy: without this its
            # first piece would leave with its last.
            await asyncio.sleep(0)
            self._waited_at = time.monotonic()

    def start_over(self) -> None:
        """Take back what was emitted: the next piece, or the result, begins the output anew."""
        self.emitted.clear()
        self.has_emitted = False

    def restart(self) -> None:
        """Begin the output anew: the next piece replaces all that was streamed."""
        self.emitted.clear()
        self.has_emitted = False

    async def status(self, words: str) -> None:
        """Tell the caller what is going on."""
        await self._job.stream.status(TaskState.WORKING, self._say(words))

    async def ask(self, question: str) -> Any:
        """Ask the caller and wait for the reply: its text, or its decoded data."""
        reply = await self._job.ask(self._say(question))
        text = text_of(reply.parts)
        return json.loads(bytes(input_from_message(reply, None))) if text is None else text

    async def step(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do a piece of work once: ``answer = await ctx.step("answer", lambda: model(text))``.

        In a durable task the result is kept in the log, so that after a crash another worker gets
        it instead of doing the work, and paying for it, again. It has to be a JSON value, and is
        given as JSON makes it (a tuple as a list). The names of a task's steps, of at most 256
        characters, are the same in every attempt; a repeated name is numbered. For effects
        outside, give ``idempotency_key(name)`` along.

        Raises:
            ValueError: a durable task's step with a name that the log cannot take; nothing was
                done.
        """
        return await self._job.step(name, work)

    def idempotency_key(self, name: str) -> str:
        """What tells an outside system that a repeated step is the same (spec/durable.md)."""
        return f"{self.task_id}:{name}"

    @property
    def artifacts(self) -> ArtifactStore:
        """Contents that do not fit into a message; ``artifact_part`` makes one a part to emit."""
        return self._bus.artifacts

    async def delegate(self, skill: str, *, agent: str | None = None, **input: Any) -> Result:
        """Have another agent do a part of the work, within what remains of the limits.

        A durable task delegates durably: when its worker dies, the next one finds the delegated
        task where it was, and does not pay for it again.

        Raises:
            LocalError: ``LIMIT_EXCEEDED`` when no hop remains.
            DragomanError: whatever the child task raises.
        """
        options = self.below() | await self._job.delegation(skill, agent, input)
        try:
            result = await self._job.patiently(
                lambda: self._bus.ask(skill, input, agent=agent, **options)
            )
        except RemoteError as error:
            if "delivery" in options and isinstance(error, TaskFailed):
                # A durable task has used up its own attempts; asked again, it tells the same end.
                error.retryable = False
            if error.task_usage is not None:
                self._report_below(error.task_usage)
            raise
        if result.usage is not None:
            self._report_below(result.usage)
        return result

    def _report_below(self, usage: Usage) -> None:
        self.count_usage(usage, below=True)
        self.check_limits()

    @property
    def bus(self) -> Bus:
        """The bus, for what is no delegation; tasks given to others take ``below()`` along."""
        return self._bus

    @property
    def above(self) -> tuple[str, ...]:
        """The agents that delegated the task down to this one, the root's first."""
        lineage = self._job.data.lineage
        return () if isinstance(lineage, UnsetType) else tuple(lineage.path)

    @property
    def is_durable(self) -> bool:
        """Whether the task survives the death of this process."""
        return self._job.data.delivery == "durable"

    async def durably(self, skill: str, agent: str | None, input: Any) -> dict[str, Any]:
        """Options of ``Bus.submit`` that make a task below a durable one the same in every attempt.

        Empty when this task is not durable.
        """
        return await self._job.delegation(skill, agent, input)

    def afterwards(self, skill: str, input: Any, *, agent: str | None = None) -> str:
        """Submit a durable task once this one has completed, together with its end; its id.

        Either both are stored, or neither. Its limits are what remains of this task's.

        Raises:
            LocalError: ``NOT_CONFIGURED``: this task is not durable.
        """
        submission = Submission(
            skill=skill, input=input, agent=agent, delivery="durable", **self.below()
        )
        data = submission.data(time.time())
        self._job.send_afterwards(data)
        return data.task_id

    def announce_afterwards(self, topic: str, event: str, payload: Any) -> None:
        """Publish an event once this durable task has completed, together with its end.

        Raises:
            LocalError: ``NOT_CONFIGURED``: this task is not durable.
        """
        document = Raw(msgspec.json.encode(payload))
        self._job.send_afterwards(EventData(topic=topic, event=event, payload=document))

    def below(self) -> dict[str, Any]:
        """Options of ``Bus.submit`` for a task below this one: what remains of the limits, lineage.

        Raises:
            LocalError: ``LIMIT_EXCEEDED`` when no hop remains.
        """
        limits = self._job.data.limits
        hops = remaining_hops(limits)
        if hops < 1:
            raise LocalError("no hop remains for a delegation", code="LIMIT_EXCEEDED")
        deadline = UNSET if isinstance(limits, UnsetType) else limits.deadline
        return {
            "deadline": self.deadline if self.deadline is not None else 300.0,
            "latest": None if isinstance(deadline, UnsetType) else deadline,
            "context_id": self.context_id,
            "max_hops": hops - 1,
            "max_tokens": remaining_tokens(limits, self.usage),
            "max_cost": remaining_cost(limits, self.usage),
            "lineage": self._lineage(),
        }

    def report_usage(self, usage: Usage) -> None:
        """Add to what the task used.

        Raises:
            ValueError: it is not valid; says which member.
            LocalError: ``LIMIT_EXCEEDED`` when that is more than the task may use.
        """
        self.count_usage(usage)
        self.check_limits()

    def count_usage(self, usage: Usage, *, below: bool = False) -> None:
        """Add to what the task used, and judge later: for what is learned while it ends.

        Args:
            usage: More of it.
            below: Whether a task below this one used it, which a later attempt hears again.

        Raises:
            ValueError: it is not valid; says which member.
        """
        if not below:
            check_sound(usage, "a usage")
        job = self._job
        job.usage = add_usage(job.usage, usage)
        if not below:
            job.used_itself = add_usage(job.used_itself, usage)

    def check_limits(self) -> None:
        """Refuse to go on when the task has used more than it may.

        Raises:
            LocalError: ``LIMIT_EXCEEDED``.
        """
        if self.usage is not None:
            check_limits(self._job.data.limits, self.usage)

    def served_by(self, *, provider: str, family: str, model: str | None = None) -> None:
        """Say which model produced the output.

        Raises:
            ValueError: a name is empty or none.
        """
        identity = ModelIdentity(provider=provider, family=family, model=model or UNSET)
        check_sound(identity, "a model's identity")
        self.model = identity

    def _lineage(self) -> Lineage:
        above = self._job.data.lineage
        if isinstance(above, UnsetType):
            return Lineage(
                parent_task_id=self.task_id, root_task_id=self.task_id, path=[self._agent]
            )
        return Lineage(
            parent_task_id=self.task_id,
            root_task_id=above.root_task_id,
            path=[*above.path, self._agent],
        )

    def _say(self, words: str) -> Message:
        check_text(words, "what is told to the caller")
        return Message(
            message_id=new_identifier(),
            role=Role.AGENT,
            parts=[text_part(words)],
            task_id=self.task_id,
            context_id=self.context_id,
        )
