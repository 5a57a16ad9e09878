"""Ensembles on the bus: agents made of agents, each with the skill of its members.

Spec: spec/ensembles.md. One function for each kind makes an ``Agent`` to ``serve`` or to test; the
same kinds can be declared in a configuration file (``[agents.ensemble]``).
"""

from __future__ import annotations

from dragoman_agents.ensembles.agents.checking import cross_check
from dragoman_agents.ensembles.agents.choosing import router
from dragoman_agents.ensembles.agents.escalating import cascade
from dragoman_agents.ensembles.agents.falling_back import failover
from dragoman_agents.ensembles.agents.members import Member
from dragoman_agents.ensembles.agents.ranking import judge
from dragoman_agents.ensembles.agents.splitting import map_reduce
from dragoman_agents.ensembles.agents.voting import consensus

__all__ = [
    "Member",
    "cascade",
    "consensus",
    "cross_check",
    "failover",
    "judge",
    "map_reduce",
    "router",
]
