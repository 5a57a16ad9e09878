"""An ensemble without code: the table ``[agents.ensemble]`` of a configuration file as an agent."""

from __future__ import annotations

from typing import Any

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import (
    CascadeTable,
    ConsensusTable,
    CrossCheckTable,
    FailoverTable,
    JudgeTable,
    MapReduceTable,
    RouterTable,
)
from dragoman_agents.configuration.tables import AgentDeclaration, SkillDeclaration
from dragoman_agents.ensembles.agents.checking import CrossCheck
from dragoman_agents.ensembles.agents.choosing import Routing
from dragoman_agents.ensembles.agents.escalating import Escalating
from dragoman_agents.ensembles.agents.falling_back import Failover
from dragoman_agents.ensembles.agents.ranking import Judging
from dragoman_agents.ensembles.agents.splitting import Splitting
from dragoman_agents.ensembles.agents.voting import Consensus
from dragoman_bus.protocol.contracts import make_contract
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.protocol.payloads import Contract

__all__ = ["declared_ensemble"]

KINDS: dict[type[Any], type[Any]] = {
    ConsensusTable: Consensus,
    CascadeTable: Escalating,
    FailoverTable: Failover,
    RouterTable: Routing,
    CrossCheckTable: CrossCheck,
    JudgeTable: Judging,
    MapReduceTable: Splitting,
}


def declared_ensemble(declaration: AgentDeclaration) -> Agent:
    """The agent of a table ``[[agents]]`` with ``[agents.ensemble]``.

    Raises:
        NotConfigured: it is no ensemble.
    """
    table = declaration.ensemble
    if declaration.name is None or table is None:
        raise NotConfigured(f"{declaration.label} is not declared as an ensemble")
    made = KINDS[type(table)](
        declaration.name,
        table,
        description=declaration.description,
        version=declaration.version,
        concurrency=declaration.concurrency,
        contract=_contract(declaration.skills),
    )
    agent: Agent = made.agent
    return agent


def _contract(skills: tuple[SkillDeclaration, ...]) -> Contract | None:
    for skill in skills:
        return make_contract(
            skill.id, skill.input_schema, skill.output_schema, text_input=skill.text_member
        )
    return None
