"""How an ensemble came to its answer, as its receipt tells it.

Spec: spec/ensembles.md, account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType, structs

from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView, Missing
from dragoman_agents.usage import add_usage
from dragoman_bus.protocol.receipts import MemberOutcome, MemberReport, Usage

__all__ = ["absence", "described", "report", "summed", "unasked", "unused"]

LONGEST_ANSWER = 2048
"""Bytes of JSON that a report repeats of an answer; longer ones are cut (ENS-8)."""
LONGEST_WORDS = 1024


def report(
    call: Call,
    outcome: MemberOutcome,
    *,
    why: str | None = None,
    weight: float | None = None,
    tells_answer: bool = True,
) -> MemberReport:
    """What one call came to.

    Args:
        call: The call.
        outcome: What it meant.
        why: In words; default: the error's own.
        weight: How much it counted.
        tells_answer: Whether to repeat the answer; not that of the member whose answer was taken.
    """
    answer, cut = _shortened(call) if tells_answer else (UNSET, UNSET)
    error = call.error
    words = why or (None if error is None else error.message)
    return MemberReport(
        agent=call.name,
        outcome=outcome,
        role=call.role,
        instance=call.instance or UNSET,
        task_id=call.task_id or UNSET,
        model=call.model or UNSET,
        weight=UNSET if weight is None else round(weight, 6),
        answer=answer,
        answer_cut=cut,
        why=UNSET if words is None else words[:LONGEST_WORDS],
        code=UNSET if error is None else error.code,
        usage=call.usage or UNSET,
        milliseconds=round(call.seconds * 1000, 3),
    )


def absence(missing: Missing) -> MemberReport:
    """A member that could not be asked."""
    return MemberReport(agent=missing.agent, outcome="absent", why=missing.why[:LONGEST_WORDS])


def unasked(member: MemberView, why: str) -> MemberReport:
    """A member that could have been asked."""
    return MemberReport(agent=member.name, outcome="unasked", model=member.model or UNSET, why=why)


def unused(calls: Iterable[Call]) -> list[MemberReport]:
    """Calls of which only their failure or their end matters."""
    return [
        report(call, "stopped" if call.stopped else "failed" if call.error else "used")
        for call in calls
    ]


def summed(calls: Iterable[Call], words: Callable[[str, int], str]) -> list[MemberReport]:
    """One report for all calls of a member in a role; a member that failed once is told so.

    Args:
        calls: Calls of which there may be many.
        words: What to say of a member, from its name and the number of its calls.
    """
    parts: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        parts.setdefault((call.name, call.role), []).append(call)
    reports = []
    for (name, _), several in parts.items():
        failed = next((call for call in several if call.error is not None), None)
        first = failed or several[0]
        usage: Usage | None = None
        for call in several:
            usage = usage if call.usage is None else add_usage(usage, call.usage)
        made = report(first, "failed" if failed else "used", tells_answer=False)
        why = words(name, len(several)) if failed is None else f"{made.why}"
        reports.append(
            structs.replace(
                made,
                usage=usage or UNSET,
                task_id=UNSET if len(several) > 1 else made.task_id,
                milliseconds=round(sum(call.seconds for call in several) * 1000, 3),
                why=why[:LONGEST_WORDS],
            )
        )
    return reports


def described(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _shortened(call: Call) -> tuple[Raw | UnsetType, bool | UnsetType]:
    if call.result is None:
        return UNSET, UNSET
    value: Any = call.value
    document = msgspec.json.encode(value)
    if len(document) <= LONGEST_ANSWER:
        return Raw(document), UNSET
    text = value if isinstance(value, str) else document.decode()
    return Raw(msgspec.json.encode(text[: LONGEST_ANSWER // 2])), True
