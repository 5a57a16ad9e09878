"""Failover: the first member that can; another one when it fails, never for money nobody allowed.

Spec: spec/ensembles.md, failover. Whom to ask when is decided by ``ensembles.failover``.
"""

from __future__ import annotations

from typing import Any

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import FailoverTable
from dragoman_agents.ensembles.agents.base import Ensemble
from dragoman_agents.ensembles.agents.making import make
from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_agents.ensembles.agents.shared_health import SharedHealth
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.agents.trying import Attempts
from dragoman_bus.client import Bus

__all__ = ["Failover", "failover"]


class Failover(Ensemble[FailoverTable]):
    """An ensemble that falls back. See ``failover``."""

    kind = "failover"

    def __init__(self, name: str, table: FailoverTable, **rest: Any) -> None:
        super().__init__(name, table, **rest)
        self.health = SharedHealth(name)

    async def start(self, bus: Bus) -> None:
        """Take over the members' contract, and what others know of their health."""
        await super().start(bus)
        await self.health.start(bus)

    async def stop(self) -> None:
        """Follow the others' health no longer."""
        await self.health.stop()
        await super().stop()

    async def answer(self, task: Task, input: Any) -> Any:
        """The first answer there is."""
        self.health.look_at(task.members)
        preferred = await self._absent_first(task)
        attempts = Attempts(task, task.members, self.health, self.table, preferred=preferred)
        call, why = await attempts.first_answer()
        task.tell("served", f"{call.name}: {why}", attempts.reports(call), chosen=call)
        return call.value

    async def _absent_first(self, task: Task) -> MemberView | None:
        """The member named first, when it is not there: what it costs is known all the same."""
        named = self.roster.named
        if not named or any(member.name == named[0].agent for member in task.members):
            return None
        directory = await task.ctx.bus.directory()
        models = [
            facts
            for announce in directory.announcements(named[0].agent)
            for facts in announce.models or ()
        ]
        return MemberView(member=named[0], models=tuple(models))


def failover(
    name: str,
    **options: Any,
) -> Agent:
    """An agent that asks the first of its members that can answer.

    ``failover("steady", skill="answer", members=["gpt", "llama"], fallback="same_price")``.

    Args:
        name: Its name.
        options: The members of ``FailoverTable``, and of ``AgentOptions``.

    Raises:
        NotConfigured: an option that is unknown or cannot be.
    """
    return make(Failover, FailoverTable, name, options)
