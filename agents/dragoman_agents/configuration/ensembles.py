"""The table ``[agents.ensemble]`` as types, one for each kind; code takes the same options.

What the options mean is said in docs/ensembles.md and spec/ensembles.md.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from dragoman_agents.configuration.agreements import (
    AgreementTable,
    Amount,
    Share,
    Table,
    Text,
    Token,
)
from dragoman_agents.ensembles.weighting import JointWeights

__all__ = [
    "CascadeTable",
    "ConsensusTable",
    "CrossCheckTable",
    "EnsembleTable",
    "FailoverTable",
    "JudgeTable",
    "MapReduceTable",
    "MemberTable",
    "RouterTable",
    "SharedTable",
    "StageTable",
]

Count = Annotated[int, Meta(ge=1, le=65536)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]


class MemberTable(Table, frozen=True, kw_only=True):
    """A member with what its announcement does not say.

    Attributes:
        agent: Its name.
        price: What a call costs; 0 for a free one. Absent: by the price that it announces.
        weight: How much its vote counts; absent: what was learned.
        canary: For a router: the part of all contexts that goes to it whatever the policy says.
    """

    agent: Token
    price: Amount | None = None
    weight: Amount | None = None
    canary: Share = 0.0


class SharedTable(Table, tag_field="kind", frozen=True, kw_only=True):
    """What ensembles of every kind have.

    Attributes:
        skill: What its members are asked for, and what it offers itself.
        offers: Another name under which it offers that, so that whoever asks for it is never
            answered by a member alone.
        members: Agents by name, in order of preference; absent: whoever has the skill.
        families: Instead: one agent for each of these model families.
        tags: Of agents that are found, only those whose skill has all these tags.
        wait_seconds: How long members may take; absent: as long as the deadline allows.
        unknown_price: Whether members of unknown price are asked when the task's money is limited.
        expected_output_tokens: How long an answer is expected to be, to compare prices.
    """

    skill: Token
    offers: Token | None = None
    members: tuple[Token | MemberTable, ...] = ()
    families: tuple[Text, ...] = ()
    tags: tuple[Text, ...] = ()
    wait_seconds: Seconds | None = None
    unknown_price: Literal["refuse", "allow"] = "refuse"
    expected_output_tokens: Count = 500

    @property
    def own_skill(self) -> str:
        """The id of the skill that it offers."""
        return self.offers or self.skill

    def named_members(self) -> list[str]:
        """The members that the file names."""
        return _names(self.members)

    def __post_init__(self) -> None:
        names = _names(self.members)
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"members names {name!r} twice")
        if self.members and (self.families or self.tags):
            raise ValueError("give members, or families and tags by which they are found, not both")


def _names(members: tuple[str | MemberTable, ...]) -> list[str]:
    return [one if isinstance(one, str) else one.agent for one in members]


class ConsensusTable(SharedTable, tag="consensus", frozen=True, kw_only=True):
    """Members vote.

    Attributes:
        quorum: So many must agree.
        agreement: When two answers say the same.
        tie: What equal weights mean.
        ask: All members together, which is quickest; or as few as may suffice, then more, which
            costs least.
        order: Whom to ask first when few are asked; absent: most weight for the money first.
        weights: Learned elsewhere, from labels of one's own (``ensembles.weighting.fit_weights``);
            labels that come later do not change them.
        learned: Instead: the file with weights and order, as ``dragoman learn`` writes it.
        explore: In what part of the tasks members that do not count are asked all the same, so
            that they can show that they got better.
        subject: The member of the input that says what a task is about, to learn by subject.
        minimum_share: The winner's part of all weight that was cast, else it abstains.
        minimum_confidence: How likely right the answer must be, else it abstains.
        stop_early: Whether members are stopped once the verdict cannot change. Otherwise all are
            heard, which costs more and tells all dissent.
        learn: From labelled results only, or also from what the other members say.
        choices: How many different answers there can be; absent: as many as the contract's output
            lists, else 10.
        margin: How far below the best member another one may be and still vote.
    """

    quorum: Count = 1
    agreement: AgreementTable = "exact"
    tie: Literal["first_member", "abstain"] = "first_member"
    ask: Literal["together", "as_needed"] = "together"
    order: tuple[Token, ...] = ()
    weights: JointWeights | None = None
    learned: Text | None = None
    explore: Share = 0.05
    subject: Text | None = None
    minimum_share: Share = 0.0
    minimum_confidence: Share = 0.0
    stop_early: bool = True
    learn: Literal["labels", "consensus"] = "labels"
    choices: Annotated[int, Meta(ge=2)] | None = None
    margin: Share = 0.10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None and self.learned is not None:
            raise ValueError("give weights, or the file learned, not both")
        if self.members and self.quorum > len(self.members):
            raise ValueError(
                f"quorum is {self.quorum}, and there are only {len(self.members)} members"
            )


class StageTable(Table, frozen=True, kw_only=True):
    """Members of a cascade that are asked together.

    Attributes:
        members: Their names.
        quorum: How many must agree; absent: all of them.
        minimum_confidence: What their own confidence must reach, where they tell one.
    """

    members: Annotated[tuple[Token | MemberTable, ...], Meta(min_length=1)]
    quorum: Count | None = None
    minimum_confidence: Share = 0.0


class CascadeTable(SharedTable, tag="cascade", frozen=True, kw_only=True):
    """The cheapest capable members first, the next stage when their answer is doubtful.

    Attributes:
        stages: What to try, in order; absent: one stage for each member, cheapest first.
        agreement: When two answers say the same.
        confidence: The member of an answer that tells how sure it is; absent: none does.
        minimum_confidence: What it must reach, in stages that do not say it themselves.
        check: A skill that is asked whether an answer is acceptable; absent: none is.
        check_agent: Whose; absent: that of any agent that has it.
        subject: The member of the input that says what a task is about.
        learned: The file that says when to go on, as ``dragoman learn`` writes it for these stages.
        stage_seconds: How long one stage may take before the next one is asked; absent: two thirds
            of what is left of the task's time.
        on_doubt: When the last stage is doubtful: its answer all the same, or none.
    """

    stages: tuple[StageTable, ...] = ()
    agreement: AgreementTable = "exact"
    confidence: Text | None = None
    minimum_confidence: Share = 0.0
    check: Token | None = None
    check_agent: Token | None = None
    subject: Text | None = None
    learned: Text | None = None
    stage_seconds: Seconds | None = None
    on_doubt: Literal["answer", "abstain"] = "answer"

    def named_members(self) -> list[str]:
        """Those of all stages, or of the ensemble when it has none."""
        staged = [name for stage in self.stages for name in _names(stage.members)]
        return staged or super().named_members()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stages and (self.members or self.families or self.tags):
            raise ValueError("stages name their members; remove members, families and tags")
        if self.learned is not None and not self.stages:
            raise ValueError("what was learned belongs to stages: write [[agents.ensemble.stages]]")
        for stage in self.stages:
            if stage.quorum is not None and stage.quorum > len(stage.members):
                raise ValueError("a stage's quorum is larger than the number of its members")


class FailoverTable(SharedTable, tag="failover", frozen=True, kw_only=True):
    """The first member that can; another one when it fails.

    Attributes:
        fallback: What a stand-in may cost: there is none; no more than the first; nothing; any.
        hedge_percentile: After so much of the usual latency a second one is asked as well.
        attempts_per_member: How often one member is asked at most for one task.
        attempt_seconds: How long one member may take before another is asked; absent: two thirds
            of what is left of the task's time while there is another one, else all of it.
    """

    fallback: Literal["none", "same_price", "free_only", "any"] = "same_price"
    hedge_percentile: Annotated[float, Meta(gt=0, lt=1)] | None = None
    attempts_per_member: Count = 3
    attempt_seconds: Seconds | None = None


class RouterTable(SharedTable, tag="router", frozen=True, kw_only=True):
    """One member per task, chosen by policy.

    Attributes:
        default: The member to rely on while nothing speaks for another.
        price_weight: How much quality (0 to 1) one unit of money is worth.
        latency_weight: How much quality one second is worth.
        load_weight: How much quality a member without a free slot loses.
        within: Among members at most so far below the best quality, the cheapest is taken.
        caution: By how many standard errors a member must be better than the best single one.
        explore: In what part of the tasks another member than the chosen one is tried, so that
            there is something to learn from.
        subject: The member of the input that says what a task is about.
        learned: The file that says who is good at what, as ``dragoman learn`` writes it; labels
            that come later count on top.
        capabilities: What a member must have, as tags of its skill.
        max_seconds: A member that usually takes longer is out of the question.
        sticky: Whether the tasks of one context go to the same member.
        fallback: What a stand-in may cost when the chosen one fails.
        hedge_percentile, attempts_per_member, attempt_seconds: As for ``failover``.
        agreement: When an answer is the one that a label says.
    """

    default: Token | None = None
    price_weight: Amount = 0.0
    latency_weight: Amount = 0.0
    load_weight: Amount = 0.0
    within: Share = 0.0
    caution: Amount = 1.5
    explore: Share = 0.0
    subject: Text | None = None
    learned: Text | None = None
    capabilities: tuple[Text, ...] = ()
    max_seconds: Seconds | None = None
    sticky: bool = True
    fallback: Literal["none", "same_price", "free_only", "any"] = "same_price"
    hedge_percentile: Annotated[float, Meta(gt=0, lt=1)] | None = None
    attempts_per_member: Count = 3
    attempt_seconds: Seconds | None = None
    agreement: AgreementTable = "exact"


class CrossCheckTable(SharedTable, tag="cross_check", frozen=True, kw_only=True):
    """The first member answers, checkers judge, and it may repair.

    Attributes:
        check: The checkers' skill: it takes ``{"question", "answer", "criteria"}`` and gives
            ``{"ok": true or false, "why": text}``.
        checkers: Who checks; absent: whoever has that skill.
        criteria: What a good answer fulfils.
        approvals: How many checkers must accept it; absent: more than half of them.
        repairs: How often the answer may be repaired.
        repair: A skill that repairs: it takes ``{"question", "answer", "objections"}`` and gives
            an answer. Absent: the question is asked again, of the next member where there is one.
        on_doubt: When no answer was accepted: the last one all the same, or none.
    """

    check: Token
    checkers: tuple[Token | MemberTable, ...] = ()
    criteria: tuple[Text, ...] = ()
    approvals: Count | None = None
    repairs: Annotated[int, Meta(ge=0, le=16)] = 1
    repair: Token | None = None
    on_doubt: Literal["answer", "abstain"] = "abstain"


class JudgeTable(SharedTable, tag="judge", frozen=True, kw_only=True):
    """Members answer, judges compare the answers in pairs, the best one is given.

    Attributes:
        compare: The judges' skill: it takes ``{"question", "first", "second", "criteria"}`` and
            gives ``"first"``, ``"second"`` or ``"tie"``.
        judges: Who compares; absent: whoever has that skill.
        criteria: What makes an answer the better one.
        agreement: Answers that say the same are compared once.
        on_doubt: When the judges are undecided, or nobody judges: the answer of the member named
            first, or none.
    """

    compare: Token
    judges: tuple[Token | MemberTable, ...] = ()
    criteria: tuple[Text, ...] = ()
    agreement: AgreementTable = "exact"
    on_doubt: Literal["answer", "abstain"] = "answer"


class MapReduceTable(SharedTable, tag="map_reduce", frozen=True, kw_only=True):
    """A long text in pieces for the members, and the answers put together again.

    Attributes:
        text: The member of the input that is cut into pieces.
        size: Characters of a piece.
        overlap: Characters that a piece repeats of the one before.
        combine: The skill that joins answers: it takes ``{"parts": [text, …]}``. Absent: the
            answers themselves are put to ``skill`` again, as one text.
        combiner: Who joins; absent: any agent with that skill.
        fan_in: How many answers are joined at once.
        at_once: How many pieces are at work at the same time.
    """

    text: Text = "text"
    size: Annotated[int, Meta(ge=1)] = 8000
    overlap: Annotated[int, Meta(ge=0)] = 0
    combine: Token | None = None
    combiner: Token | None = None
    fan_in: Annotated[int, Meta(ge=2)] = 8
    at_once: Count = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap > self.size // 2:
            raise ValueError("overlap is at most half of size")


EnsembleTable: TypeAlias = (
    ConsensusTable
    | CascadeTable
    | FailoverTable
    | RouterTable
    | CrossCheckTable
    | JudgeTable
    | MapReduceTable
)
"""Any kind of ensemble."""
