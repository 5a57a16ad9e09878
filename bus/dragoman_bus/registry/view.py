"""An agent as a reader of the registry sees it: its card, its contracts, its live instances."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from dragoman_bus.protocol.payloads import AnnounceData, Contract, InstanceState, LeaseData

__all__ = ["AgentView", "contract_of", "group_views", "offers"]


class AgentView(msgspec.Struct, frozen=True):
    """One agent under one card. During a rolling upgrade an agent has a view per card."""

    announce: AnnounceData
    digest: str
    instances: list[LeaseData]

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.announce.agent

    @property
    def skills(self) -> list[str]:
        """The ids of the skills it offers."""
        return [skill.id for skill in self.announce.card.skills]

    @property
    def is_ready(self) -> bool:
        """Whether any instance takes new tasks."""
        return any(lease.state is InstanceState.READY for lease in self.instances)

    def contract(self, skill: str) -> Contract | None:
        """The contract of a skill."""
        return contract_of(self.announce, skill)

    def offers(
        self,
        *,
        agent: str | None = None,
        skill: str | None = None,
        tags: Iterable[str] = (),
        contract: str | None = None,
    ) -> bool:
        """Whether it fits: the agent's name, and one skill with that id, tags and digest."""
        return offers(self.announce, agent=agent, skill=skill, tags=tags, contract=contract)

    def model_names(self) -> list[str]:
        """``provider/model`` (or family) of every model it says it wraps."""
        models = [] if self.announce.models is UNSET else self.announce.models
        return [
            f"{facts.provider}/{facts.family if facts.model is UNSET else facts.model}"
            for facts in models or ()
        ]


def contract_of(announce: AnnounceData, skill: str) -> Contract | None:
    """The contract of an agent's skill."""
    for contract in announce.contracts:
        if contract.skill == skill:
            return contract
    return None


def offers(
    announce: AnnounceData,
    *,
    agent: str | None = None,
    skill: str | None = None,
    tags: Iterable[str] = (),
    contract: str | None = None,
) -> bool:
    """Whether an agent fits: its name, and one skill with that id, tags and digest."""
    if agent is not None and announce.agent != agent:
        return False
    wanted = set(tags)
    if skill is None and contract is None and not wanted:
        return True
    return any(
        (skill is None or candidate.id == skill)
        and wanted <= set(candidate.tags)
        and (contract is None or _has_digest(announce, candidate.id, contract))
        for candidate in announce.card.skills
    )


def _has_digest(announce: AnnounceData, skill: str, digest: str) -> bool:
    contract = contract_of(announce, skill)
    return contract is not None and contract.digest == digest


def group_views(leases: Iterable[LeaseData], cards: dict[str, AnnounceData]) -> list[AgentView]:
    """Views of all leases whose card is among ``cards``, by name; instances by their start."""
    groups: dict[tuple[str, str], list[LeaseData]] = {}
    for lease in leases:
        if lease.card in cards:
            groups.setdefault((lease.agent, lease.card), []).append(lease)
    return [
        AgentView(
            announce=cards[digest],
            digest=digest,
            instances=sorted(held, key=lambda lease: (lease.started_at, lease.instance)),
        )
        for (_, digest), held in sorted(groups.items())
    ]
