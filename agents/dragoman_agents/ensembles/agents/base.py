"""An ensemble is an agent: it has the skill of its members, and its answer comes from theirs.

Spec: spec/ensembles.md. What the kinds have in common: finding members, taking over their contract,
limits, the account in the receipt, and the skill ``feedback`` where something is learned.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
from msgspec import UnsetType

from dragoman_agents.agent import MODES, Agent
from dragoman_agents.configuration.ensembles import SharedTable
from dragoman_agents.context import Context
from dragoman_agents.ensembles.agents.calling import Calls
from dragoman_agents.ensembles.agents.learning import FeedbackResult, Learning
from dragoman_agents.ensembles.agents.members import (
    ENSEMBLE_TAG,
    Roster,
    able_to_take,
    as_members,
)
from dragoman_agents.ensembles.agents.spending import BYTES_PER_TOKEN, Spending
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.agreement import SchemaField
from dragoman_bus.client import Bus
from dragoman_bus.protocol.payloads import Contract
from dragoman_bus.protocol.receipts import (
    EnsembleKind,
)
from dragoman_bus.registry.view import AgentView

__all__ = ["Ensemble", "subject_of"]

logger = logging.getLogger("dragoman.ensembles")

CONCURRENCY = 64
"""Tasks at once: an ensemble does little but wait."""
QUEUE = 256
WAIT_WORDS_SECONDS = 3.0
FEEDBACK = "feedback"
Table = TypeVar("Table", bound=SharedTable)


class Ensemble(ABC, Generic[Table]):
    """The common part of every kind.

    Args:
        name: The agent's name.
        table: Its options.
        description: For people and for models that choose among agents.
        contract: Of its skill, with the skill's description; absent: that of its members.
    """

    kind: ClassVar[EnsembleKind]
    table: Table

    def __init__(
        self,
        name: str,
        table: Table,
        *,
        description: str | None = None,
        version: str = "1.0.0",
        concurrency: int | None = None,
        contract: Contract | None = None,
    ) -> None:
        self.table = table
        self.contract = contract
        self.learning: Learning | None = None
        self.agent = Agent(
            name,
            description=description or f"{self.kind.replace('_', ' ')} over {table.skill}",
            version=version,
            concurrency=concurrency or CONCURRENCY,
            queue=QUEUE,
        )
        self.roster = Roster(
            name,
            table.skill,
            as_members(table.members),
            families=table.families,
            tags=table.tags,
        )
        self.agent.on_start(self.start)
        self.agent.on_stop(self.stop)
        if contract is not None:
            self._offer(contract)

    @abstractmethod
    async def answer(self, task: Task, input: Any) -> Any:
        """Answer one task.

        Raises:
            DragomanError: there is no answer; the account says why.
        """

    async def start(self, bus: Bus) -> None:
        """Take over the members' contract, and what was learned before."""
        await bus.directory()
        if self.contract is None:
            self.contract, modes = await self._members_contract(bus)
            self._offer(self.contract, modes, foreign=True)
        if self.learning is not None:
            await self.learning.start(bus)

    async def stop(self) -> None:
        """Write down what was learned."""
        if self.learning is not None:
            await self.learning.stop()

    async def run(self, input: Any, ctx: Context) -> Any:
        """The skill."""
        task = await self.open_task(input, ctx)
        value = await self.answer(task, input)
        ctx.check_limits()
        return value

    async def open_task(self, input: Any, ctx: Context) -> Task:
        """The members that can be asked now, and the books of this task."""
        members, missing = await self.roster.present(
            ctx.bus, above=ctx.above, contract=self.contract
        )
        members, unfit = able_to_take(members, ctx.message)
        missing += unfit
        spending = Spending(
            ctx,
            self.table.unknown_price,
            input_tokens=len(msgspec.json.encode(input)) // BYTES_PER_TOKEN,
            output_tokens=self.table.expected_output_tokens,
        )
        calls = Calls(
            ctx,
            self.table.skill,
            self.contract,
            spending,
            wait_seconds=self.table.wait_seconds,
        )
        return Task(ctx, self.kind, calls, members, missing)

    def offer_feedback(self) -> None:
        """Serve the skill ``feedback``: labels for tasks that were done, by their ids."""
        learning = self.learning
        assert learning is not None

        async def feedback(
            task_id: str,
            truth: Any = None,
            right: bool | None = None,
            subject: str | None = None,
        ) -> FeedbackResult:
            """Learns from a label: the right answer to a task, or whether the one given is."""
            return await learning.feedback(task_id, truth, right, subject)

        self.agent.add_skill(FEEDBACK, feedback, tags=[ENSEMBLE_TAG])

    def _offer(
        self, contract: Contract, modes: Sequence[str] = (), *, foreign: bool = False
    ) -> None:
        text_input = contract.text_input
        self.agent.add_skill(
            self.table.own_skill,
            self.run,
            description=self.agent.description,
            tags=[ENSEMBLE_TAG, self.kind.replace("_", "-"), *self.table.tags],
            input_schema=contract.input_schema,
            output_schema=contract.output_schema,
            text_input=None if isinstance(text_input, UnsetType) else text_input,
            input_modes=modes,
            foreign=foreign,
        )

    async def _members_contract(self, bus: Bus) -> tuple[Contract, list[str]]:
        """The contract of the first member that is there; waits until one is.

        And what members say that they take beside text and JSON.
        """
        directory = await bus.directory()
        words = asyncio.get_running_loop().call_later(WAIT_WORDS_SECONDS, self._say_waiting)
        try:
            views = await directory.wait_for(lambda views: self._contract_among(views) is not None)
        finally:
            words.cancel()
        contract = self._contract_among(views)
        assert contract is not None
        members, _ = self.roster.among(views)
        modes = {mode for member in members for mode in member.modes}
        return contract, sorted(modes - set(MODES))

    def _contract_among(self, views: list[AgentView]) -> Contract | None:
        members, _ = self.roster.among(views)
        return next((member.contract for member in members if member.contract), None)

    def _say_waiting(self) -> None:
        names = ", ".join(member.agent for member in self.roster.named) or "any agent"
        logger.warning(
            "ensemble %s waits for a member that offers %r, to take over its contract: %s",
            self.agent.name,
            self.table.skill,
            names,
        )


def subject_of(input: Any, path: str | None) -> str:
    """What a task is about, by a member of its input; empty when nobody says."""
    if path is None:
        return ""
    found = SchemaField(path).pick(input)
    return found if isinstance(found, str) else ""
