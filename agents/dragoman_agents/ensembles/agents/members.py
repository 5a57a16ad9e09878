"""Who belongs to an ensemble: members by name, by model family, or whoever has the skill.

Spec: spec/ensembles.md, members. What is known of a member comes from its announcement and its
leases: models, prices, contract, load.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from msgspec import UNSET, Struct, UnsetType

from dragoman_agents.configuration.ensembles import MemberTable
from dragoman_bus.client import Bus
from dragoman_bus.protocol.a2a import Message
from dragoman_bus.protocol.payloads import Contract, Cost, ModelFacts, ModelIdentity
from dragoman_bus.registry.view import AgentView
from dragoman_bus.validation.difference import compare_schemas

__all__ = [
    "ENSEMBLE_TAG",
    "Member",
    "MemberView",
    "Missing",
    "Roster",
    "able_to_take",
    "as_members",
]

ENSEMBLE_TAG = "ensemble"
"""The tag of a skill that is served by an ensemble (ENS-2)."""

TOKENS_PER_PRICE = 1_000_000


class Member(Struct, frozen=True, kw_only=True):
    """A member by name, with what its announcement does not say.

    Attributes:
        agent: Its name.
        price: What a call costs, in the currency of the other members; 0 for a free one. Absent:
            the price that it announces, if any.
        weight: How much its vote counts; absent: what was learned.
        canary: Part of all contexts that a router sends to it whatever its policy says.
    """

    agent: str
    price: float | None = None
    weight: float | None = None
    canary: float = 0.0


class Missing(Struct, frozen=True):
    """A member that cannot be asked, and why; ``code`` is that of the error when nobody can be."""

    agent: str
    why: str
    code: str = "AGENT_UNAVAILABLE"


class MemberView(Struct, frozen=True, kw_only=True):
    """A member as it is on the bus now.

    Attributes:
        member: As it was named, or found.
        models: What it says of its models.
        contract: That of the skill.
        tags: Those of the skill.
        modes: Media types that the skill says it takes, as in ``image/*``.
        load: Part of its slots that are taken; above 1 when tasks wait.
        started_at: When the youngest of its instances started, RFC 3339; empty when none is there.
    """

    member: Member
    models: tuple[ModelFacts, ...] = ()
    contract: Contract | None = None
    tags: frozenset[str] = frozenset()
    modes: frozenset[str] = frozenset()
    load: float = 0.0
    started_at: str = ""

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.member.agent

    @property
    def model(self) -> ModelIdentity | None:
        """The first model that it announces."""
        if not self.models:
            return None
        facts = self.models[0]
        return ModelIdentity(provider=facts.provider, family=facts.family, model=facts.model)

    @property
    def model_name(self) -> str | None:
        """``provider/model`` of that model."""
        model = self.model
        if model is None:
            return None
        return f"{model.provider}/{model.model or model.family}"

    def takes(self, media_types: Iterable[str]) -> bool:
        """Whether it says that it takes all of these."""
        return all(
            media_type in self.modes or f"{media_type.partition('/')[0]}/*" in self.modes
            for media_type in media_types
        )

    @property
    def context_window(self) -> int | None:
        """Tokens that fit into the smallest context of its models; ``None`` is unknown."""
        known = [
            facts.context_window
            for facts in self.models
            if not isinstance(facts.context_window, UnsetType)
        ]
        return min(known, default=None)

    def expected_cost(self, input_tokens: int, output_tokens: int) -> Cost | None:
        """What a call of that size costs by list price; ``None`` when no price is known.

        An amount that was given for the member has no currency of its own: ``XXX``, which
        ISO 4217 keeps for that.
        """
        if self.member.price is not None:
            return Cost(amount=self.member.price, currency="XXX")
        prices = [facts.price for facts in self.models]
        known = [price for price in prices if not isinstance(price, UnsetType)]
        if not known or len(known) < len(prices):
            return None
        # Of several models nobody knows which one will run: the dearest is reckoned with.
        amounts = [
            Cost(
                amount=(
                    input_tokens * price.input_per_million_tokens
                    + output_tokens * price.output_per_million_tokens
                )
                / TOKENS_PER_PRICE,
                currency=price.currency,
            )
            for price in known
        ]
        return max(amounts, key=lambda cost: cost.amount)


class Roster:
    """Finds the members of one ensemble among the agents that are on the bus.

    Args:
        owner: The ensemble's name; it is never its own member.
        skill: What the members offer.
        members: By name, in order of preference.
        families: One agent for each of these model families instead.
        tags: Of those found by skill or family, only agents whose skill has all these tags.
    """

    def __init__(
        self,
        owner: str,
        skill: str,
        members: Sequence[Member] = (),
        *,
        families: Sequence[str] = (),
        tags: Iterable[str] = (),
    ) -> None:
        self.owner = owner
        self.skill = skill
        self.named = tuple(members)
        self.families = tuple(families)
        self.tags = frozenset(tags)

    async def present(
        self, bus: Bus, *, above: Collection[str] = (), contract: Contract | None = None
    ) -> tuple[list[MemberView], list[Missing]]:
        """The members that can be asked now, and those that cannot.

        Args:
            bus: Where to look.
            above: Agents above in the lineage: asked again, they would refuse (LIN-2).
            contract: Members whose contract does not fit it cannot be asked; ``None`` takes any.
        """
        return self.among((await bus.directory()).agents(), above=above, contract=contract)

    def among(
        self,
        agents: Iterable[AgentView],
        *,
        above: Collection[str] = (),
        contract: Contract | None = None,
    ) -> tuple[list[MemberView], list[Missing]]:
        """The same of agents that were found already."""
        views = [view for view in agents if self.skill in view.skills]
        if self.named:
            return self._by_name(views, above, contract)
        found = [
            view
            for view in _newest(views, self.skill, contract)
            if self._is_eligible(view, above) and _fits(view, self.skill, contract)
        ]
        seen = [_member_view(Member(agent=view.name), [view], self.skill) for view in found]
        if self.families:
            return self._by_family(seen)
        return seen, []

    def _by_name(
        self, views: Sequence[AgentView], above: Collection[str], contract: Contract | None
    ) -> tuple[list[MemberView], list[Missing]]:
        present: list[MemberView] = []
        missing: list[Missing] = []
        for member in self.named:
            own = [view for view in views if view.name == member.agent]
            fitting = [view for view in own if _fits(view, self.skill, contract)]
            ready = [view for view in fitting if view.is_ready]
            if member.agent == self.owner or member.agent in above:
                missing.append(Missing(member.agent, "the task came from it"))
            elif not own:
                missing.append(Missing(member.agent, f"it does not serve {self.skill!r} now"))
            elif not fitting:
                words = f"its contract of {self.skill!r} does not fit that of {self.owner}"
                missing.append(Missing(member.agent, words))
            elif not ready:
                missing.append(Missing(member.agent, "it is leaving"))
            else:
                present.append(_member_view(member, ready, self.skill))
        return present, missing

    def _by_family(self, seen: Sequence[MemberView]) -> tuple[list[MemberView], list[Missing]]:
        """For each family the agent with the most room."""
        present: list[MemberView] = []
        missing: list[Missing] = []
        for family in self.families:
            able = [one for one in seen if any(model.family == family for model in one.models)]
            if able:
                present.append(min(able, key=lambda one: one.load))
            else:
                missing.append(Missing(family, f"no agent with this model serves {self.skill!r}"))
        return present, missing

    def _is_eligible(self, view: AgentView, above: Collection[str]) -> bool:
        tags = _tags(view, self.skill)
        return (
            view.is_ready
            and view.name != self.owner
            and view.name not in above
            # ENS-3: who takes whoever comes must not multiply other ensembles.
            and ENSEMBLE_TAG not in tags
            and self.tags <= tags
        )


def able_to_take(
    members: Sequence[MemberView], message: Message
) -> tuple[list[MemberView], list[Missing]]:
    """Those that take the pictures and files of a message, if any says so; else all."""
    media_types = {
        part.media_type
        for part in message.parts
        if not (isinstance(part.raw, UnsetType) and isinstance(part.url, UnsetType))
        and not isinstance(part.media_type, UnsetType)
    }
    able = [member for member in members if member.takes(media_types)]
    if not able:
        return list(members), []
    why = f"it does not take {', '.join(sorted(media_types))}"
    return able, [Missing(one.name, why) for one in members if one not in able]


def as_members(members: Sequence[str | MemberTable | Member]) -> tuple[Member, ...]:
    """Members as they are named in code or in a file."""
    return tuple(
        Member(agent=one)
        if isinstance(one, str)
        else one
        if isinstance(one, Member)
        else Member(agent=one.agent, price=one.price, weight=one.weight, canary=one.canary)
        for one in members
    )


def _newest(views: Iterable[AgentView], skill: str, contract: Contract | None) -> list[AgentView]:
    """One view per agent: during an upgrade the one that fits, else any."""
    chosen: dict[str, AgentView] = {}
    for view in views:
        known = chosen.get(view.name)
        if known is None or _fits(view, skill, contract):
            chosen[view.name] = view
    return list(chosen.values())


def _member_view(member: Member, views: Sequence[AgentView], skill: str) -> MemberView:
    leases = [lease for view in views for lease in view.instances]
    slots = sum(lease.slots for lease in leases)
    busy = sum(lease.running + lease.queued for lease in leases)
    announce = views[-1].announce
    return MemberView(
        member=member,
        models=() if announce.models is UNSET else tuple(announce.models or ()),
        contract=views[-1].contract(skill),
        tags=_tags(views[-1], skill),
        modes=_modes(views[-1], skill),
        load=busy / slots if slots else 0.0,
        started_at=max((lease.started_at for lease in leases), default=""),
    )


def _fits(view: AgentView, skill: str, contract: Contract | None) -> bool:
    """Whether the agent takes what the contract allows, and gives nothing else."""
    own = view.contract(skill)
    if contract is None or own is None or own.digest == contract.digest:
        return own is not None
    return _is_compatible(_Pair(contract, own))


class _Pair:
    """Two contracts as a key of a cache: equal by their digests."""

    def __init__(self, asked: Contract, own: Contract) -> None:
        self.asked = asked
        self.own = own

    def __hash__(self) -> int:
        return hash((self.asked.digest, self.own.digest))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pair) and (self.asked.digest, self.own.digest) == (
            other.asked.digest,
            other.own.digest,
        )


@lru_cache(maxsize=1024)
def _is_compatible(pair: _Pair) -> bool:
    asked, own = pair.asked, pair.own
    if asked.text_input != own.text_input:
        return False
    taken = compare_schemas(asked.input_schema, own.input_schema)
    given = compare_schemas(own.output_schema, asked.output_schema)
    # Whether members that nobody named are refused makes no difference to those that are named.
    return not any(
        one.breaks and not one.pointer.endswith("/additionalProperties") for one in [*taken, *given]
    )


def _modes(view: AgentView, skill: str) -> frozenset[str]:
    skills = [one for one in view.announce.card.skills if one.id == skill]
    return frozenset(mode for one in skills for mode in one.input_modes or ())


def _tags(view: AgentView, skill: str) -> frozenset[str]:
    return frozenset(
        tag for one in view.announce.card.skills if one.id == skill for tag in one.tags
    )
