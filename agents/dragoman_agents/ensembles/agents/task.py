"""One task of an ensemble: who can be asked, what was asked, and the account of it.

Spec: spec/ensembles.md, account and no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from dragoman_agents.context import Context
from dragoman_agents.ensembles.agents.accounts import absence
from dragoman_agents.ensembles.agents.calling import Calls
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView, Missing
from dragoman_bus.protocol.errors import TaskFailed
from dragoman_bus.protocol.receipts import (
    EnsembleKind,
    EnsembleReceipt,
    EnsembleVerdict,
    MemberReport,
)

__all__ = ["Task"]

NOBODY = "no member can be asked"


class Task:
    """One task of an ensemble: who can be asked, the calls, and the account.

    Args:
        ctx: The task's context.
        kind: The ensemble's kind.
        calls: What is asked.
        members: Who can be asked now.
        missing: Who cannot.
    """

    def __init__(
        self,
        ctx: Context,
        kind: EnsembleKind,
        calls: Calls,
        members: Sequence[MemberView],
        missing: Sequence[Missing],
    ) -> None:
        self.ctx = ctx
        self.kind = kind
        self.calls = calls
        self.members = list(members)
        self.missing = list(missing)

    def tell(
        self,
        verdict: EnsembleVerdict,
        reason: str,
        reports: Sequence[MemberReport],
        *,
        chosen: Call | None = None,
        **facts: Any,
    ) -> None:
        """Put the account into the receipt.

        Args:
            verdict: How it ended.
            reason: Why, in words.
            reports: What each member did; those that are missing are added.
            chosen: The call whose answer is given.
            facts: Further members of ``EnsembleReceipt``.
        """
        ctx = self.ctx
        ctx.reason = reason[:1024]
        ctx.candidates = [member.name for member in self.members][:1024]
        ctx.model = None if chosen is None else chosen.model
        told = {report.agent for report in reports}
        absent = [absence(one) for one in self.missing if one.agent not in told]
        ctx.account = EnsembleReceipt(
            kind=self.kind,
            verdict=verdict,
            reason=reason[:1024],
            members=[*reports, *absent][:1024],
            served_by=UNSET if chosen is None else chosen.name,
            **{name: value for name, value in facts.items() if value is not None},
        )

    def abstain(self, reason: str, reports: Sequence[MemberReport], **facts: Any) -> TaskFailed:
        """The error of an ensemble that gives no answer, with the account told.

        When no member gave an answer, it is their error: the first of those that may be healed by
        a retry, else the first.
        """
        self.tell("abstained", reason, reports, **facts)
        log = self.calls.log
        errors = [call.error for call in log if call.error is not None]
        # Nobody is asked where even the agreement of all would not be enough.
        was_decided = not log and not self.missing and bool(self.members)
        if was_decided or any(call.result is not None for call in log):
            return TaskFailed(reason, code="ABSTAINED")
        # Who was stopped and asked again counts by the second call.
        latest = {call.name: call for call in log}
        if any(call.stopped for call in latest.values()):
            return TaskFailed("no member answered in time", code="DEADLINE_EXCEEDED")
        if not errors:
            words = "; ".join(f"{one.agent}: {one.why}" for one in self.missing)
            codes = {one.code for one in self.missing}
            # Who is not there now may be later; what is not allowed never will be.
            code = codes.pop() if len(codes) == 1 else "AGENT_UNAVAILABLE"
            what = reason if self.members and code == "AGENT_UNAVAILABLE" else NOBODY
            return TaskFailed(f"{what}: {words or 'nobody is there'}", code=code)
        worst = next((error for error in errors if error.retryable), errors[0])
        return TaskFailed(
            f"no member answered; {worst.message}",
            code=worst.code,
            retryable=worst.retryable,
            retry_after=worst.retry_after,
            side_effects=worst.side_effects,
        )
