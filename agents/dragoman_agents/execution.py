"""One task run through its skill: input judged, function called, output judged, errors told.

Spec: spec/operations.md, submit; spec/errors.md. No traceback and no foreign exception text that
may hold secrets goes onto the wire beyond the exception's own words.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Executor
from functools import partial
from typing import Any

from msgspec import UNSET

from dragoman_agents.agent import Agent, Skill
from dragoman_agents.context import Context
from dragoman_agents.masking import masked, masked_error, masked_traceback
from dragoman_bus.client import Bus
from dragoman_bus.protocol.a2a import Artifact, TaskState
from dragoman_bus.protocol.contracts import artifact_for_output
from dragoman_bus.protocol.error_objects import error_object, error_of
from dragoman_bus.protocol.errors import DragomanError, InvalidInput
from dragoman_bus.protocol.payloads import ErrorObject, Receipt
from dragoman_bus.protocol.soundness import check_sound
from dragoman_bus.service import Instance, Job, Outcome
from dragoman_bus.tracing import current_trace, traced

__all__ = ["SkillRunner"]

logger = logging.getLogger("dragoman.agents")


class SkillRunner:
    """Runs the skills of one agent; given to an ``Instance`` as its ``run``.

    Args:
        agent: Whose skills.
        bus: For delegation.
        threads: Runs functions that are not coroutines.
    """

    def __init__(self, agent: Agent, bus: Bus, threads: Executor) -> None:
        self.instance: Instance | None = None
        self._agent = agent
        self._bus = bus
        self._threads = threads

    async def __call__(self, job: Job) -> Outcome:
        """Run one task to its end; cancellation passes through."""
        skill = self._agent.skills[job.data.skill]
        context = Context(job, self._agent.name, self._bus)
        try:
            if (job.trace or current_trace()) is None:
                value = await self._call(skill, job, context)
            else:
                # Not the trace of whoever started this process: that of the task, or none.
                with traced(job.trace):
                    value = await self._call(skill, job, context)
            outcome = Outcome(
                state=TaskState.COMPLETED, artifacts=self._artifacts(skill, value, context)
            )
        except InvalidInput as error:
            outcome = Outcome(state=TaskState.REJECTED, error=self._told(job, error))
        except DragomanError as error:
            outcome = Outcome(state=TaskState.FAILED, error=self._told(job, error, "possible"))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a skill may raise anything; all of it is told
            outcome = Outcome(state=TaskState.FAILED, error=self._unexpected(job, error))
        outcome.usage = context.usage
        outcome.receipt = self._receipt(skill, job, context)
        return outcome

    async def _call(self, skill: Skill, job: Job, context: Context) -> Any:
        signature = skill.signature
        contract = skill.contract
        text_input = None if contract.text_input is UNSET else contract.text_input
        arguments = signature.arguments(job.data.message, text_input or None)
        if signature.takes_context:
            arguments["ctx"] = context
        if signature.kind == "async":
            return await signature.function(**arguments)
        if signature.kind == "stream":
            async for piece in signature.function(**arguments):
                await context.emit(piece)
            return None
        return await self._in_thread(partial(signature.function, **arguments))

    async def _in_thread(self, call: partial[Any]) -> Any:
        # A thread cannot be interrupted: its slot stays taken until it ends (spec: cancel).
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def _artifacts(self, skill: Skill, value: Any, context: Context) -> list[Artifact] | None:
        streamed = "".join(context.emitted)
        if context.has_emitted and (value is None or value == streamed):
            skill.signature.check_output(streamed)
            return None
        return [artifact_for_output(skill.signature.check_output(value))]

    def _receipt(self, skill: Skill, job: Job, context: Context) -> Receipt:
        started = job.started_at or job.accepted_at
        receipt = Receipt(
            agent=self._agent.name,
            instance=self.instance.id if self.instance else self._agent.name,
            skill=skill.card.id,
            contract=skill.contract.digest,
            model=context.model or UNSET,
            reason=context.reason or UNSET,
            candidates=context.candidates or UNSET,
            queued_milliseconds=_milliseconds(started - job.accepted_at),
            run_milliseconds=_milliseconds(time.monotonic() - started),
            ensemble=context.account or UNSET,
        )
        try:
            if context.reason or context.candidates or context.account:
                check_sound(receipt, "the receipt")
        except ValueError as error:
            # What was paid for is worth more than what is said of it.
            logger.error("task %s is told without its reasons: %s", job.task_id, error)
            receipt.reason = receipt.candidates = receipt.ensemble = UNSET
        return receipt

    def _told(self, job: Job, error: DragomanError, side_effects: str | None = None) -> ErrorObject:
        try:
            told = masked_error(error_of(error, side_effects=side_effects))
            check_sound(told, "an error")
        except (TypeError, ValueError) as wrong:
            logger.error("what ended task %s is told in words: %s", job.task_id, wrong)
            return self._unexpected(job, error)
        return told

    def _unexpected(self, job: Job, error: BaseException) -> ErrorObject:
        # The traceback is text here: its last line is the exception's, which may hold a key.
        told = masked_traceback(error)
        logger.error("skill %s failed on task %s\n%s", job.data.skill, job.task_id, told)
        words = masked(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        return error_object("SKILL_FAILED", words[:1024], side_effects="possible")


def _milliseconds(seconds: float) -> float:
    """To a microsecond."""
    return round(seconds * 1e6) / 1e3
