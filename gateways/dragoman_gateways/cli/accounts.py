"""How an ensemble came to its answer, in words: the verdict, and a line for each member."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw, UnsetType

from dragoman_bus.protocol.receipts import EnsembleReceipt, MemberOutcome, MemberReport
from dragoman_gateways.cli.output import error_console, printable
from dragoman_gateways.cli.words import duration, model_name, usage_words

__all__ = ["account_of", "account_summary", "member_lines", "print_account"]

LONGEST_ANSWER = 120

OUTCOMES: Mapping[MemberOutcome, str] = {
    "chosen": "wrote the answer",
    "agreed": "agrees",
    "dissented": "dissents",
    "used": "helped",
    "failed": "failed",
    "absent": "is absent",
    "stopped": "was stopped",
    "unasked": "was not asked",
}

ROLES = {"check": "check", "judge": "judge", "repair": "repair", "combine": "join"}


def account_of(receipt: object) -> EnsembleReceipt | None:
    """The account in a receipt, if an ensemble gave it."""
    found = getattr(receipt, "ensemble", None)
    return found if isinstance(found, EnsembleReceipt) else None


def account_summary(account: EnsembleReceipt) -> str:
    """``consensus agreed: 2 of 3 agree; c said something else (confidence 67%, estimated)``."""
    words = f"{account.kind.replace('_', '-')} {account.verdict}: {account.reason}"
    if isinstance(account.confidence, UnsetType):
        return words
    learned = "" if account.calibrated is True else ", estimated"
    return f"{words} (confidence {account.confidence:.0%}{learned})"


def member_lines(account: EnsembleReceipt) -> list[tuple[str, str]]:
    """For each member its name, and what became of it; who disagreed comes with its answer."""
    lines = [(member.agent, _member(member)) for member in account.members]
    if isinstance(account.candidates, UnsetType):
        return lines
    scored = [
        one.agent if isinstance(one.score, UnsetType) else f"{one.agent} {one.score:.3g}"
        for one in account.candidates
    ]
    return [*lines, ("considered", ", ".join(scored))] if scored else lines


def print_account(receipt: object) -> None:
    """Tell people how an ensemble came to its answer; receipts of others say nothing of it."""
    account = account_of(receipt)
    if account is None:
        return
    error_console().print(f"  {printable(account_summary(account))}", style="dim", markup=False)
    lines = member_lines(account)
    width = max((len(name) for name, _ in lines), default=0)
    for name, words in lines:
        line = f"    {printable(name):<{width}}  {printable(words)}"
        error_console().print(line, style="dim", markup=False)


def _member(member: MemberReport) -> str:
    words = OUTCOMES[member.outcome]
    role = "" if isinstance(member.role, UnsetType) else ROLES.get(member.role, "")
    answer = _answer(member.answer)
    if member.outcome == "dissented" and answer:
        words = f"says {answer}"
    facts = [f"{role}: {words}" if role else words]
    if not isinstance(member.model, UnsetType):
        facts.append(model_name(member.model))
    if not isinstance(member.weight, UnsetType) and member.weight != 1:
        facts.append(f"weight {member.weight:.2g}")
    if not isinstance(member.milliseconds, UnsetType):
        facts.append(duration(member.milliseconds / 1000))
    facts.append(_usage(member))
    if not isinstance(member.why, UnsetType) and member.outcome not in ("chosen", "agreed"):
        facts.append(member.why)
    return " · ".join(fact for fact in facts if fact)


def _usage(member: MemberReport) -> str:
    if isinstance(member.usage, UnsetType):
        return ""
    words = usage_words(member.usage)
    unknown = isinstance(member.usage.cost, UnsetType) and member.usage.source != "none"
    return f"{words}, cost unknown" if words and unknown else words or "cost unknown"


def _answer(answer: Raw | UnsetType) -> str:
    if isinstance(answer, UnsetType):
        return ""
    value = msgspec.json.decode(answer)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    quoted = f"“{text}”" if isinstance(value, str) else text
    return quoted if len(quoted) <= LONGEST_ANSWER else f"{quoted[:LONGEST_ANSWER]}…"
