"""Map-reduce: a long text in pieces for the members, and their answers put together again.

Spec: spec/ensembles.md, map-reduce. Where to cut and whom to join is decided by
``ensembles.map_reduce``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import MapReduceTable
from dragoman_agents.ensembles.agents.accounts import summed
from dragoman_agents.ensembles.agents.base import Ensemble
from dragoman_agents.ensembles.agents.making import make
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_agents.ensembles.agents.spending import BYTES_PER_TOKEN, Turns
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.agents.wording import value_text
from dragoman_agents.ensembles.map_reduce import split_text, step_groups
from dragoman_bus.protocol.errors import InvalidInput, TaskFailed
from dragoman_bus.protocol.receipts import MemberRole

__all__ = ["Splitting", "map_reduce"]

MOST_PIECES = 10_000


class Splitting(Ensemble[MapReduceTable]):
    """An ensemble that cuts its input into pieces. See ``map_reduce``."""

    kind = "map_reduce"

    async def answer(self, task: Task, input: Any) -> Any:
        """Have the pieces done, then join the answers."""
        pieces = self._pieces(input)
        if not task.members:
            raise task.abstain("no member can be asked", [])
        # A call is as long as a piece, whatever the length of the whole.
        longest = {**input, self.table.text: max(pieces, key=len)}
        task.calls.spending.input_tokens = len(msgspec.json.encode(longest)) // BYTES_PER_TOKEN
        turns = Turns(len(pieces), self.table.at_once)
        answers = await _all(
            [
                self._part(task, turns, number, {**input, self.table.text: piece})
                for number, piece in enumerate(pieces)
            ]
        )
        rounds = 0
        while len(answers) > 1:
            rounds += 1
            groups = step_groups(answers, self.table.fan_in)
            turns = Turns(len(groups), self.table.at_once)
            answers = await _all(
                [
                    self._join(task, turns, number, group, input)
                    for number, group in enumerate(groups)
                ]
            )
        words = f"{len(pieces)} pieces" + (f", joined in {rounds} rounds" if rounds else "")
        task.tell("accepted", words, self._reports(task))
        models = [call.model for call in task.calls.log if call.result is not None]
        if all(model == models[0] for model in models):
            task.ctx.model = models[0]
        return answers[0]

    def _pieces(self, input: Any) -> list[str]:
        text = input.get(self.table.text) if isinstance(input, dict) else None
        if not isinstance(text, str):
            raise InvalidInput(f"the input has no text {self.table.text!r} to cut into pieces")
        pieces = split_text(text, self.table.size, overlap=self.table.overlap) or [text]
        if len(pieces) > MOST_PIECES:
            raise InvalidInput(f"the text makes {len(pieces)} pieces; {MOST_PIECES} are allowed")
        return pieces

    async def _part(
        self,
        task: Task,
        turns: Turns,
        number: int,
        input: Any,
        role: MemberRole = "part",
    ) -> Any:
        """One piece, by the member whose turn it is; by the next one when that fails."""
        async with turns:
            start = number % len(task.members)
            order = [*task.members[start:], *task.members[:start]]
            return await self._first(task, order, turns, input=input, role=role)

    async def _join(
        self, task: Task, turns: Turns, number: int, parts: Sequence[Any], input: Any
    ) -> Any:
        if len(parts) == 1:
            return parts[0]
        texts = [value_text(part) for part in parts]
        if self.table.combine is None:
            joined = {**input, self.table.text: "\n\n".join(texts)}
            return await self._part(task, turns, number, joined, role="combine")
        async with turns:
            call = await task.calls.ask_helper(
                self.table.combine, self.table.combiner, {"parts": texts}, role="combine"
            )
        return call.value if call.result is not None else self._fail(task, call)

    async def _first(
        self,
        task: Task,
        order: Sequence[MemberView],
        turns: Turns,
        *,
        input: Any,
        role: MemberRole,
    ) -> Any:
        """The answer of the first of these that gives one; ``order`` is not empty."""
        for number, member in enumerate(order, 1):
            call = await task.calls.ask_within(
                member,
                role=role,
                parts=turns.parts,
                input=input,
                seconds=task.calls.step_seconds if number < len(order) else None,
            )
            if call.result is not None:
                return call.value
        return self._fail(task, call)

    def _fail(self, task: Task, call: Call) -> NoReturn:
        """End the task: without this piece the whole would be wrong."""
        task.tell("abstained", "a piece could not be done", self._reports(task))
        error = call.error
        assert error is not None
        raise TaskFailed(
            f"a piece could not be done by any member; {error.message}",
            code=error.code,
            retryable=error.retryable,
            retry_after=error.retry_after,
            side_effects=error.side_effects,
        )

    def _reports(self, task: Task) -> list[Any]:
        return summed(task.calls.log, lambda _, count: f"{count} calls")


def map_reduce(
    name: str,
    **options: Any,
) -> Agent:
    """An agent that cuts a long text into pieces, has them done side by side, and joins the rest.

    ``map_reduce("long", skill="summarize", members=["llama", "gpt"], size=6000)``.

    Args:
        name: Its name.
        options: The members of ``MapReduceTable``, and of ``AgentOptions``.

    Raises:
        NotConfigured: an option that is unknown or cannot be.
    """
    return make(Splitting, MapReduceTable, name, options)


async def _all(works: Sequence[Any]) -> list[Any]:
    """All results in order; the first failure stops the rest, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    return [task.result() for task in tasks]
