"""What a finished task tells of itself: what it used, who answered, and whom an ensemble heard.

Spec: spec/model.md, usage and receipt; spec/ensembles.md, account.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from dragoman_bus.protocol.a2a import Token

__all__ = [
    "LONGEST_REASON",
    "MAXIMUM_INTEGER",
    "Code",
    "ConsideredAgent",
    "Cost",
    "Count",
    "Currency",
    "Data",
    "Digest",
    "EnsembleKind",
    "EnsembleReceipt",
    "EnsembleVerdict",
    "MemberOutcome",
    "MemberReport",
    "MemberRole",
    "ModelIdentity",
    "Name",
    "Reason",
    "Receipt",
    "Usage",
]

MAXIMUM_INTEGER = 2**53 - 1
LONGEST_REASON = 1024

Digest: TypeAlias = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAXIMUM_INTEGER)]
Currency: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
Code: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]{0,63}$(?!\n)")]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Reason: TypeAlias = Annotated[str, Meta(max_length=LONGEST_REASON)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Milliseconds: TypeAlias = Annotated[float, Meta(ge=0)]

EnsembleKind: TypeAlias = Literal[
    "consensus", "cross_check", "cascade", "failover", "router", "judge", "map_reduce"
]
EnsembleVerdict: TypeAlias = Literal["agreed", "accepted", "doubtful", "served", "abstained"]
MemberRole: TypeAlias = Literal["answer", "check", "repair", "judge", "part", "combine"]
MemberOutcome: TypeAlias = Literal[
    "chosen", "agreed", "dissented", "used", "failed", "absent", "stopped", "unasked"
]


# No message refers to itself, so the garbage collector need not visit any (gc=False).
class Data(Struct, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """What every part of a message's data has in common."""


class Cost(Data, kw_only=True):
    """An amount of money."""

    amount: Annotated[float, Meta(ge=0)]
    currency: Currency


class Usage(Data, kw_only=True):
    """What a task used, itself and below it. An absent member is unknown, not zero."""

    input_tokens: Count | UnsetType = UNSET
    output_tokens: Count | UnsetType = UNSET
    cached_input_tokens: Count | UnsetType = UNSET
    reasoning_tokens: Count | UnsetType = UNSET
    calls: Count | UnsetType = UNSET
    cost: Cost | UnsetType = UNSET
    source: Literal["provider", "estimated", "none"] | UnsetType = UNSET


class ModelIdentity(Data, kw_only=True):
    """The model that served a task."""

    provider: Name
    family: Name
    model: Name | UnsetType = UNSET


class MemberReport(Data, kw_only=True):
    """What one member of an ensemble was asked for, and what came of it (ENS-6)."""

    agent: Token
    outcome: MemberOutcome
    role: MemberRole | UnsetType = UNSET
    instance: Token | UnsetType = UNSET
    task_id: Token | UnsetType = UNSET
    model: ModelIdentity | UnsetType = UNSET
    weight: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    answer: Raw | UnsetType = UNSET
    answer_cut: bool | UnsetType = UNSET
    why: Reason | UnsetType = UNSET
    code: Code | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    milliseconds: Milliseconds | UnsetType = UNSET


class ConsideredAgent(Data, kw_only=True):
    """An agent that could have been asked: how it scored, and why it was or was not."""

    agent: Token
    why: Reason
    score: float | UnsetType = UNSET


class EnsembleReceipt(Data, kw_only=True):
    """How an ensemble came to its answer: verdict, votes, dissent, who was absent, what it cost."""

    kind: EnsembleKind
    verdict: EnsembleVerdict
    reason: Reason
    members: Annotated[list[MemberReport], Meta(max_length=1024)]
    served_by: Token | UnsetType = UNSET
    share: Share | UnsetType = UNSET
    confidence: Share | UnsetType = UNSET
    calibrated: bool | UnsetType = UNSET
    candidates: Annotated[list[ConsideredAgent], Meta(max_length=1024)] | UnsetType = UNSET


class Receipt(Data, kw_only=True):
    """Who answered a task, and why that one."""

    agent: Token
    instance: Token
    skill: Token
    contract: Digest | UnsetType = UNSET
    model: ModelIdentity | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    candidates: Annotated[list[Token], Meta(max_length=1024)] | UnsetType = UNSET
    queued_milliseconds: Milliseconds | UnsetType = UNSET
    run_milliseconds: Milliseconds | UnsetType = UNSET
    ensemble: EnsembleReceipt | UnsetType = UNSET
