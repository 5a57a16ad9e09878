"""When two answers say the same, as options say it; judges and embeddings are asked on the bus.

Spec: spec/ensembles.md, consensus. The pure ways are in ``ensembles.agreement``; a way that needs
other agents is made ready with all answers before it is asked to compare them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from dragoman_agents.configuration.agreements import (
    AgreementTable,
    ByEmbedding,
    ByField,
    ByJudge,
    ByNumber,
    ByRounding,
)
from dragoman_agents.ensembles.agents.calling import Calls
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.wording import value_text, verdict_of
from dragoman_agents.ensembles.agreement import (
    Agreement,
    Exact,
    Judged,
    NormalizedText,
    NumericTolerance,
    RoundedNumber,
    SchemaField,
    Similarity,
)
from dragoman_bus.protocol.payloads import Contract

__all__ = [
    "AgreementOption",
    "Comparing",
    "agreement_of",
    "choices_of",
    "comparing",
]

AgreementOption: TypeAlias = str | Mapping[str, Any]
"""An agreement as a file says it."""


MANY = 10
"""Taken for the number of possible answers where nothing lists them."""


class Comparing:
    """An agreement for one task. Pure ones need no preparation.

    Attributes:
        is_ready: Whether it compares without asking anybody.
    """

    is_ready = True

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement

    async def prepare(self, values: Sequence[Any], calls: Calls) -> None:
        """Ask whoever must be asked before these answers can be compared."""


class _JudgedComparing(Comparing):
    """A judge says whether two answers mean the same."""

    is_ready = False

    def __init__(self, table: ByJudge) -> None:
        self._table = table
        self._judged = Judged()
        super().__init__(self._judged)

    async def prepare(self, values: Sequence[Any], calls: Calls) -> None:
        pairs = self._judged.open_pairs(values)
        asked = await asyncio.gather(
            *(
                _ask(
                    calls,
                    self._table,
                    {"first": value_text(first), "second": value_text(second)},
                )
                for first, second in pairs
            )
        )
        for (first, second), call in zip(pairs, asked, strict=True):
            # A pair that nobody could judge does not agree: the careful side.
            self._judged.record(first, second, verdict_of(call.value)[0] is True)


class _EmbeddedComparing(Comparing):
    """Vectors of answers; near ones say the same."""

    is_ready = False

    def __init__(self, table: ByEmbedding) -> None:
        self._table = table
        self._vectors: dict[bytes, Sequence[float]] = {}
        super().__init__(Similarity(self._similarity, table.threshold))

    async def prepare(self, values: Sequence[Any], calls: Calls) -> None:
        texts = {msgspec.json.encode(value): value for value in values}
        asked = await asyncio.gather(
            *(_ask(calls, self._table, value_text(value)) for key, value in texts.items())
        )
        for key, call in zip(texts, asked, strict=True):
            if isinstance(call.value, list):
                self._vectors[key] = call.value

    def _similarity(self, first: Any, second: Any) -> float:
        one, other = msgspec.json.encode(first), msgspec.json.encode(second)
        if one == other:
            return 1.0
        return _cosine(self._vectors.get(one, ()), self._vectors.get(other, ()))


def agreement_of(table: AgreementTable | Agreement) -> Agreement:
    """The agreement that options name; one that asks other agents compares exactly by itself."""
    if isinstance(table, ByField):
        return SchemaField(table.path, NormalizedText() if table.normalized else None)
    if isinstance(table, ByNumber):
        return NumericTolerance(table.absolute, table.relative)
    if isinstance(table, ByRounding):
        return RoundedNumber(table.step)
    if isinstance(table, ByJudge | ByEmbedding) or table == "exact":
        return Exact()
    if table == "normalized":
        return NormalizedText()
    assert not isinstance(table, str)
    return table


def choices_of(contract: Contract | None, table: AgreementTable) -> int:
    """How many different answers the contract's output lists; ``MANY`` where it does not."""
    schema: Any = None if contract is None else contract.output_schema
    if isinstance(table, ByField):
        for name in table.path.split("."):
            properties = schema.get("properties") if isinstance(schema, dict) else None
            schema = properties.get(name) if isinstance(properties, dict) else None
    if not isinstance(schema, dict):
        return MANY
    listed = schema.get("enum")
    if isinstance(listed, list) and len(listed) > 1:
        return len(listed)
    return 2 if schema.get("type") == "boolean" else MANY


def comparing(table: AgreementTable | Agreement) -> Comparing:
    """The agreement for one task."""
    if isinstance(table, ByJudge):
        return _JudgedComparing(table)
    if isinstance(table, ByEmbedding):
        return _EmbeddedComparing(table)
    return Comparing(agreement_of(table))


async def _ask(calls: Calls, table: ByJudge | ByEmbedding, input: Any) -> Call:
    """Ask the named agent, or whoever has the skill."""
    return await calls.ask_helper(table.skill, table.agent, input, role="judge")


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    if len(first) != len(second) or not first:
        return 0.0
    dot = math.fsum(a * b for a, b in zip(first, second, strict=True))
    length = math.hypot(*first) * math.hypot(*second)
    return max(0.0, min(1.0, dot / length)) if length else 0.0
