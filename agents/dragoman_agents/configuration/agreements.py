"""When two answers of members say the same: the option ``agreement`` of ensembles as types.

What the options mean is said in docs/ensembles.md and spec/ensembles.md.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from dragoman_bus.protocol.a2a import Token

__all__ = [
    "AgreementTable",
    "Amount",
    "ByEmbedding",
    "ByField",
    "ByJudge",
    "ByNumber",
    "ByRounding",
    "Share",
    "Table",
    "Text",
    "Token",
]

Text = Annotated[str, Meta(min_length=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any table of a file: what is not written there is refused."""


class _By(Table, tag_field="by", frozen=True, kw_only=True):
    pass


class ByField(_By, tag="field", frozen=True, kw_only=True):
    """The same in one member of an object: ``path = "verdict.label"``."""

    path: Text
    normalized: bool = False


class ByNumber(_By, tag="number", frozen=True, kw_only=True):
    """Numbers that differ by at most ``absolute``, or by ``relative`` of the larger one."""

    absolute: Amount = 0.0
    relative: Share = 0.0


class ByRounding(_By, tag="rounding", frozen=True, kw_only=True):
    """The same number on a grid of ``step``."""

    step: Annotated[float, Meta(gt=0)]


class ByJudge(_By, tag="judge", frozen=True, kw_only=True):
    """Another agent says whether two answers mean the same.

    Its skill takes ``{"first": …, "second": …}`` and gives true or false.
    """

    skill: Token
    agent: Token | None = None


class ByEmbedding(_By, tag="embedding", frozen=True, kw_only=True):
    """Another agent makes vectors of the answers; near ones say the same.

    Its skill takes text and gives a list of numbers.
    """

    skill: Token
    agent: Token | None = None
    threshold: Share = 0.8


AgreementTable: TypeAlias = (
    Literal["exact", "normalized"] | ByField | ByNumber | ByRounding | ByJudge | ByEmbedding
)
"""When two answers say the same."""
