"""Members that are asked at the same time: by one publish, or durably by one task for each.

Spec: spec/ensembles.md, asking; spec/operations.md, scatter. A scattered task is delivered
directly, so a durable ensemble gives each member a durable task, the same in every attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_agents.ensembles.agents.spending import Grant
from dragoman_bus.client import DurableTask, Result, ScatterOutcome
from dragoman_bus.client.scatter import STOPPED, Scatter
from dragoman_bus.protocol.errors import AgentLost, DragomanError, RemoteError

if TYPE_CHECKING:
    from dragoman_agents.ensembles.agents.calling import Calls

__all__ = ["RETRIES", "SETTLE_SECONDS", "Asked", "asked_together"]

SETTLE_SECONDS = 0.5
"""How long those that were stopped may take to say what they used."""
RETRIES = 20
"""How often a member without a free slot is asked again, within its deadline: waiting a little is
better than a vote of the few that had room."""


class Asked:
    """Members that were asked together. ``next`` gives their calls as they end.

    Args:
        calls: Whose books they go into.
        grant: Whom, and what each may use.
        seconds: How long to wait for them.
    """

    def __init__(self, calls: Calls, grant: Grant, seconds: float) -> None:
        self.calls = calls
        self.grant = grant
        self._began = time.monotonic()
        self._until = self._began + seconds
        self._waiting = {member.name: member for member in grant.members}

    async def open(self) -> None:
        """Send the tasks."""
        raise NotImplementedError

    async def next(self) -> Call | None:
        """The next member that ended; ``None`` when all have, or time is up."""
        raise NotImplementedError

    @property
    def is_complete(self) -> bool:
        """Whether all have ended."""
        return not self._waiting

    async def close(self) -> None:
        """Stop the rest, and take down what they used."""
        raise NotImplementedError

    async def abandon(self) -> None:
        """Leave because this task ends, or goes on elsewhere."""
        raise NotImplementedError

    def _end(self, call: Call) -> Call:
        self._waiting.pop(call.name, None)
        self.calls.verify(call)
        call.seconds = time.monotonic() - self._began
        self.calls.note(call)
        return call

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())


class _Scattered(Asked):
    """One publish reaches one replica of each."""

    async def open(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._scatter: Scatter | None = None
        self._failed: DragomanError | None = None
        if not self.grant.members:
            return
        calls = self.calls
        options = calls.ctx.below() | self.grant.options()
        options["deadline"] = self._left()
        entering = calls.ctx.bus.scatter(
            calls.skill,
            calls.message,
            agents=[member.name for member in self.grant.members],
            contract=calls.shared_contract(self.grant.members),
            retries=RETRIES,
            **options,
        )
        try:
            self._scatter = await self._stack.enter_async_context(entering)
        except RemoteError as error:
            self._failed = error

    async def next(self) -> Call | None:
        while self._waiting:
            if self._scatter is None or self._failed is not None:
                return self._fail_one(self._failed)
            try:
                async with asyncio.timeout(self._left()):
                    outcome = await anext(self._scatter)
            except StopAsyncIteration:
                self._failed = AgentLost("it did not answer")
            except TimeoutError:
                return None
            except DragomanError as error:
                self._failed = error
            else:
                if outcome.agent in self._waiting:
                    return self._end(self._call(outcome))
        return None

    async def close(self) -> None:
        if self._scatter is not None:
            for outcome in await self._scatter.settle(SETTLE_SECONDS):
                if outcome.agent in self._waiting:
                    self._end(self._call(outcome, stopped=True))
        for member in list(self._waiting.values()):
            call = Call(member=member, stopped=True, task_id=self._task_id)
            if self._scatter is None:
                call.stopped, call.error = False, self._failed
            self._end(call)
        await self._stack.aclose()

    async def abandon(self) -> None:
        await self.close()

    @property
    def _task_id(self) -> str | None:
        return None if self._scatter is None else self._scatter.data.task_id

    def _call(self, outcome: ScatterOutcome, *, stopped: bool = False) -> Call:
        return Call(
            member=self._waiting[outcome.agent],
            result=outcome.result,
            error=outcome.error,
            stopped=stopped and outcome.result is None,
            task_id=self._task_id,
            instance=outcome.instance,
            usage=outcome.usage,
        )

    def _fail_one(self, error: DragomanError | None) -> Call:
        member = next(iter(self._waiting.values()))
        return self._end(Call(member=member, error=error, task_id=self._task_id))


class _DurablyAsked(Asked):
    """A durable task for each, the same in every attempt of the ensemble's own task."""

    async def open(self) -> None:
        self._tasks: dict[str, DurableTask] = {}
        self._ends: dict[asyncio.Task[Result], MemberView] = {}
        calls = self.calls
        for member in self.grant.members:
            # One after the other: the names of steps, hence the ids, follow from the order.
            options = await calls.options(
                member.name, self.grant, calls.skill, calls.message, self._left()
            )
            try:
                task: DurableTask = await calls.ctx.bus.submit(
                    calls.skill,
                    calls.message,
                    agent=member.name,
                    contract=calls.shared_contract(self.grant.members),
                    **options,
                )
            except DragomanError as error:
                self._end(Call(member=member, error=error, task_id=error.task_id))
                continue
            self._tasks[member.name] = task
            self._ends[asyncio.create_task(task.result())] = member

    async def next(self) -> Call | None:
        if not self._ends:
            return None
        done, _ = await asyncio.wait(
            self._ends, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return None
        return self._take(done.pop())

    async def close(self) -> None:
        for member in self._ends.values():
            with contextlib.suppress(DragomanError):
                await self._tasks[member.name].request_cancel(STOPPED)
        if self._ends:
            done, _ = await asyncio.wait(self._ends, timeout=SETTLE_SECONDS)
            for end in done:
                self._take(end, stopped=True)
        await self.abandon()

    async def abandon(self) -> None:
        # Their tasks go on: the next attempt finds them, or the end of this task ends them.
        for end in self._ends:
            end.cancel()
        for member in list(self._waiting.values()):
            self._end(Call(member=member, stopped=True))

    def _take(self, end: asyncio.Task[Result], *, stopped: bool = False) -> Call:
        member = self._ends.pop(end)
        task = self._tasks[member.name]
        call = Call(member=member, task_id=task.task_id, instance=task.instance)
        error = end.exception()
        if error is None:
            call.result = end.result()
            call.usage = call.result.usage
        elif isinstance(error, DragomanError):
            call.error, call.stopped = error, stopped
            call.usage = error.task_usage if isinstance(error, RemoteError) else None
        else:
            raise error
        return self._end(call)


def asked_together(calls: Calls, grant: Grant, seconds: float) -> Asked:
    """All of a grant, to be opened; as the task's delivery wants it."""
    kind = _DurablyAsked if calls.ctx.is_durable else _Scattered
    return kind(calls, grant, seconds)
