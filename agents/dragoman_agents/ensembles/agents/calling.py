"""Asks the members of an ensemble: one, several with one publish, or durably; and sums it all up.

Spec: spec/ensembles.md, asking. Whatever a member does ends here as a ``Call``: its result or its
error, how long it took and what it used. Deadlines, limits, lineage and cancellation go with every
task; what members used, also those that were stopped, becomes part of the ensemble's usage.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import UNSET

from dragoman_agents.context import Context
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import Member, MemberView, Roster
from dragoman_agents.ensembles.agents.spending import Grant, Spending
from dragoman_agents.ensembles.agents.together import (
    RETRIES,
    SETTLE_SECONDS,
    Asked,
    asked_together,
)
from dragoman_bus.client import Result
from dragoman_bus.client.contracts import check_output
from dragoman_bus.client.durable_task import DurableTask
from dragoman_bus.client.scatter import STOPPED
from dragoman_bus.client.task import TaskHandle
from dragoman_bus.protocol.a2a import Message, TaskArtifactUpdateEvent
from dragoman_bus.protocol.contracts import OUTPUT_ARTIFACT, text_of
from dragoman_bus.protocol.errors import (
    AgentUnavailable,
    DragomanError,
    LocalError,
    RemoteError,
)
from dragoman_bus.protocol.payloads import Contract, Usage
from dragoman_bus.protocol.receipts import MemberRole

__all__ = ["Call", "Calls", "forwarded"]

LEAST_MARGIN_SECONDS = 0.05
LARGEST_MARGIN_SECONDS = 1.0
MARGIN = 0.1
"""What part of the remaining time an ensemble keeps for itself, within the two bounds above."""
STEP_PART = 2 / 3
"""What part of the remaining time one step may take when others may have to follow it."""


class Calls:
    """All that is asked of members for one task.

    Args:
        ctx: The task.
        skill: What members are asked for.
        contract: What their answers have to fit.
        spending: The limits.
        wait_seconds: How long members may take; ``None``: as long as the deadline allows.
    """

    def __init__(
        self,
        ctx: Context,
        skill: str,
        contract: Contract | None,
        spending: Spending,
        *,
        wait_seconds: float | None = None,
    ) -> None:
        self.ctx = ctx
        self.skill = skill
        self.contract = contract
        self.spending = spending
        self.message = forwarded(ctx.message)
        self.log: list[Call] = []
        left = ctx.deadline
        if left is not None:
            # Members end first, so that there is an answer for who was too late.
            left -= max(LEAST_MARGIN_SECONDS, min(LARGEST_MARGIN_SECONDS, MARGIN * left))
        given = [seconds for seconds in (left, wait_seconds) if seconds is not None]
        self._until = time.monotonic() + min(given) if given else None

    @property
    def remaining(self) -> float:
        """Seconds that members may still take."""
        return 300.0 if self._until is None else max(0.0, self._until - time.monotonic())

    @property
    def step_seconds(self) -> float:
        """Seconds that a step may take which others may have to follow (ENS-31)."""
        return self.remaining * STEP_PART

    async def ask(
        self,
        member: MemberView,
        *,
        grant: Grant,
        role: MemberRole = "answer",
        skill: str | None = None,
        input: Any = None,
        contract: Contract | None = None,
        seconds: float | None = None,
        relays: bool = False,
        retries: int = RETRIES,
    ) -> Call:
        """Ask one member and wait; its failure is part of the answer, not an exception.

        Args:
            member: Whom.
            grant: What it may use; reserved for it.
            role: What for.
            skill: Another skill than that of the ensemble; ``contract`` is then its contract.
            input: Instead of the ensemble's own input.
            contract: For another skill.
            seconds: How long at most.
            relays: Whether to stream to the caller what the member streams.
            retries: How often it is asked again when it has no free slot.
        """
        other = skill is not None
        submission = self.message if input is None else input
        call = Call(member=member, role=role)
        began = time.monotonic()
        try:
            options = await self.options(
                member.name, grant, skill or self.skill, submission, seconds
            )
            task: TaskHandle | DurableTask = await self.ctx.bus.submit(
                skill or self.skill,
                submission,
                agent=member.name,
                retries=retries,
                contract=contract if other else self.shared_contract([member]),
                **options,
            )
            call.task_id = task.task_id
            try:
                if relays and not self.ctx.is_durable:
                    await self._relay(task)
                call.result = await task.result()
                if not other:
                    check_output(self.contract, call.result)
            except asyncio.CancelledError:
                await self._stop(task, call)
                raise
            finally:
                call.instance = task.instance
        except DragomanError as error:
            call.fail(error)
        finally:
            call.seconds = time.monotonic() - began
            call.take_usage()
            self.note(call)
        return call

    def shared_contract(self, members: Sequence[MemberView]) -> Contract | None:
        """The contract to ask these by: none where one of them has a fitting, but other one."""
        own = self.contract
        if own is None:
            return None
        digests = {one.contract.digest for one in members if one.contract is not None}
        return own if digests <= {own.digest} else None

    def verify(self, call: Call) -> None:
        """Hold an answer against the ensemble's own contract."""
        if call.result is not None:
            try:
                check_output(self.contract, call.result)
            except DragomanError as error:
                call.fail(error)

    async def ask_helper(
        self, skill: str, agent: str | None, input: Any, *, role: MemberRole
    ) -> Call:
        """Ask somebody who is no member: the named agent, else the one with the most room.

        Args:
            skill: What is asked of it.
            agent: Whom; ``None`` takes any that has the skill.
            input: The input.
            role: What for.
        """
        named = () if agent is None else (Member(agent=agent),)
        roster = Roster(self.ctx.agent, skill, named)
        helpers, missing = await roster.present(self.ctx.bus, above=self.ctx.above)
        if not helpers:
            words = missing[0].why if missing else f"nobody serves {skill!r} now"
            stand_in = MemberView(member=Member(agent=agent or skill))
            error = AgentUnavailable(f"{agent or skill}: {words}")
            return self._refused(stand_in, role, error)
        # In its next attempt a durable task has to come to the same one.
        helper = helpers[0] if self.ctx.is_durable else min(helpers, key=lambda one: one.load)
        return await self.ask_within(
            helper, role=role, skill=skill, input=input, contract=helper.contract
        )

    async def ask_within(
        self, member: MemberView, *, role: MemberRole, parts: int = 1, **what: Any
    ) -> Call:
        """As ``ask``, with one of ``parts`` of what is left; a refusal is an error in the call."""
        grant = self.spending.grant([member], parts=parts)
        if not grant.members:
            words = f"{member.name}: {grant.refused[0].why}"
            return self._refused(member, role, LocalError(words, code="LIMIT_EXCEEDED"))
        return await self.ask(member, grant=grant, role=role, **what)

    @asynccontextmanager
    async def together(self, grant: Grant, *, until: float | None = None) -> AsyncIterator[Asked]:
        """Ask all of a grant at once: one publish, or for a durable task one task each.

        Leaving the block stops whoever has not finished, and waits a moment for what they used.

        Args:
            grant: Whom, and what each may use.
            until: Seconds from now after which nobody is waited for.
        """
        seconds = self.remaining if until is None else min(until, self.remaining)
        asked = asked_together(self, grant, seconds)
        await asked.open()
        try:
            yield asked
        except BaseException:
            await asked.abandon()
            raise
        await asked.close()

    def _refused(self, member: MemberView, role: MemberRole, error: DragomanError) -> Call:
        call = Call(member=member, role=role, error=error)
        self.log.append(call)
        return call

    def note(self, call: Call) -> None:
        """Take a finished call into the books."""
        self.log.append(call)
        self.spending.settle(call.member, call.usage, ran=call.ran)
        if call.usage is not None:
            self.ctx.count_usage(call.usage, below=True)
        elif call.ran and call.member.models and not isinstance(call.result, Result):
            # It may have used its model, and did not say how much: that makes the sum unknown.
            self.ctx.count_usage(Usage(calls=1), below=True)

    async def options(
        self, agent: str, grant: Grant, skill: str, input: Any, seconds: float | None
    ) -> dict[str, Any]:
        """How a member's task is submitted: options of ``Bus.submit``."""
        options = self.ctx.below() | grant.options()
        options["deadline"] = min(self.remaining, seconds or self.remaining)
        durably = await self.ctx.durably(skill, agent, _document(input))
        if durably:
            # Whether to ask again, and whom, is the ensemble's to decide.
            options |= durably | {"maximum_attempts": 1}
        return options

    async def _relay(self, task: TaskHandle | DurableTask) -> None:
        """Pass on a text as it comes; what is sent again as a whole comes with the result."""
        self.ctx.restart()
        async for update in task:
            if not isinstance(update, TaskArtifactUpdateEvent) or update.last_chunk is True:
                continue
            artifact = update.artifact
            text = text_of(artifact.parts, separator="")
            if artifact.artifact_id == OUTPUT_ARTIFACT and text is not None:
                if update.append is not True:
                    self.ctx.restart()
                await self.ctx.emit(text)

    async def _stop(self, task: TaskHandle | DurableTask, call: Call) -> None:
        """Cancel a task that nobody waits for; what it used is known when it ends soon."""
        call.stopped = True
        task.abandon(STOPPED)
        if self.ctx.is_durable:
            return  # the next attempt goes on with it, or the end of this task ends it
        with contextlib.suppress(DragomanError, TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                try:
                    await task.result()
                except RemoteError as error:
                    call.usage = error.task_usage


def forwarded(message: Message) -> Message:
    """The same request for another task: the same in every attempt."""
    return msgspec.structs.replace(message, task_id=UNSET, context_id=UNSET)


def _document(input: Any) -> Any:
    """What tells two inputs apart, as a JSON value."""
    return msgspec.json.decode(msgspec.json.encode(input))
