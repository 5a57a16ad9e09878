"""Consensus: members vote, with one publish, until nothing can change the verdict.

Spec: spec/ensembles.md, consensus. Who wins is decided by ``ensembles.votes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import ConsensusTable
from dragoman_agents.ensembles.agents.accounts import described, report
from dragoman_agents.ensembles.agents.agreeing import (
    AgreementOption,
    Comparing,
    agreement_of,
    comparing,
    said_agreement,
)
from dragoman_agents.ensembles.agents.base import Ensemble, Task, configured
from dragoman_agents.ensembles.agents.calling import Call
from dragoman_agents.ensembles.agents.learning import Ballot, Learning
from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_agents.ensembles.agreement import Agreement
from dragoman_agents.ensembles.votes import Verdict, Vote, Voter, VoteRule
from dragoman_bus.protocol.payloads import Contract
from dragoman_bus.protocol.receipts import MemberOutcome, MemberReport

__all__ = ["Consensus", "consensus"]


class Consensus(Ensemble[ConsensusTable]):
    """An ensemble whose members vote. See ``consensus``."""

    kind = "consensus"

    def __init__(
        self, name: str, table: ConsensusTable, *, agreement: Agreement | None = None, **rest: Any
    ) -> None:
        super().__init__(name, table, **rest)
        self._agreement = agreement or table.agreement
        self.learning = Learning(
            name, agreement_of(self._agreement), choices=table.choices, margin=table.margin
        )
        self.offer_feedback()

    async def answer(self, task: Task, input: Any) -> Any:
        """Have the members vote."""
        learning = self._knowledge
        weights = learning.weights(task.members)
        way = comparing(self._agreement)
        rule = VoteRule(
            quorum=self.table.quorum,
            minimum_share=max(
                self.table.minimum_share, learning.share_for(self.table.minimum_confidence)
            ),
            tie=self.table.tie,
        )
        voters = [
            Voter(member.name, weights[member.name], member.model_name) for member in task.members
        ]
        vote = Vote(voters, rule, way.agreement)
        heard = await self._hear(task, vote, way)
        verdict = vote.verdict()
        confidence, calibrated = learning.confidence(verdict.share)
        reports = _reports(task, heard, verdict, weights)
        facts = {
            "share": round(verdict.share, 6),
            "confidence": round(confidence, 6),
            "calibrated": calibrated,
        }
        self._learn(task, heard, verdict)
        if verdict.abstained or confidence < self.table.minimum_confidence:
            words = self._why_not(verdict, confidence)
            raise task.abstain(words, reports, **facts)
        assert verdict.by is not None
        task.tell("agreed", _why(verdict, voters), reports, chosen=heard[verdict.by], **facts)
        return verdict.value

    async def _hear(self, task: Task, vote: Vote, way: Comparing) -> dict[str, Call]:
        """Collect votes until the verdict stands; the calls by member."""
        grant = task.calls.spending.grant(task.members)
        for refused in grant.refused:
            vote.absent(refused.agent, refused.why)
        task.missing += grant.refused
        heard: dict[str, Call] = {}
        async with task.calls.together(grant) as asked:
            while not (vote.decided and self.table.stop_early):
                call = await asked.next()
                if call is None:
                    break
                heard[call.name] = call
                if call.error is None:
                    vote.cast(call.name, call.value)
                else:
                    vote.absent(call.name, call.error.message)
            decided = vote.decided
        for call in task.calls.log:
            if call.name not in heard:
                heard[call.name] = call
                if call.result is not None:
                    # It was about to answer when it was stopped: that is paid for, so it counts.
                    vote.cast(call.name, call.value)
        if not decided:
            for name in vote.pending:
                vote.absent(name, "it did not answer in time")
        await way.prepare([call.value for call in heard.values() if call.result], task.calls)
        return heard

    def _learn(self, task: Task, heard: dict[str, Call], verdict: Verdict) -> None:
        answers = {
            name: call.value
            for name, call in heard.items()
            if call.result is not None and call.role == "answer" and name not in verdict.pending
        }
        ballot = Ballot(answers=answers, by=verdict.by, share=verdict.share)
        self._knowledge.remember(task.ctx.task_id, ballot)
        if self.table.learn == "consensus":
            self._knowledge.observe_consensus(answers)

    def _why_not(self, verdict: Verdict, confidence: float) -> str:
        if verdict.reason == "no_answer":
            return "no member gave an answer"
        if verdict.reason == "tie":
            return "the members are split evenly"
        if verdict.reason == "no_quorum":
            return f"fewer than {self.table.quorum} members agree"
        return (
            f"the leading answer has {verdict.share:.0%} of the vote and a confidence of "
            f"{confidence:.0%}, which is not enough"
        )

    @property
    def _knowledge(self) -> Learning:
        assert self.learning is not None
        return self.learning


def consensus(
    name: str,
    *,
    agreement: Agreement | AgreementOption | None = None,
    description: str | None = None,
    contract: Contract | None = None,
    concurrency: int | None = None,
    **options: Any,
) -> Agent:
    """An agent that asks several members the same and gives the answer on which they agree.

    ``consensus("vote", skill="classify", members=["gpt", "llama", "rules"], quorum=2)``.

    Args:
        name: Its name.
        agreement: When two answers say the same: as in a file, or an object.
        description: What it is.
        contract: Of its skill; absent: that of its members, for which it waits when it starts.
        concurrency: Tasks at once.
        options: Those of ``[agents.ensemble]``: the members of ``ConsensusTable``.

    Raises:
        NotConfigured: an option that is unknown or cannot be.
    """
    way = said_agreement(agreement, options)
    return Consensus(
        name,
        configured(ConsensusTable, name, options),
        agreement=way,
        description=description,
        contract=contract,
        concurrency=concurrency,
    ).agent


def _reports(
    task: Task, heard: dict[str, Call], verdict: Verdict, weights: dict[str, float]
) -> list[MemberReport]:
    absences = {one.member: one.why for one in verdict.absent}
    reports = []
    for member in task.members:
        name = member.name
        call = heard.get(name)
        if call is None:
            continue
        weight = weights[name]
        if name == verdict.by:
            reports.append(report(call, "chosen", weight=weight, tells_answer=False))
        elif name in verdict.support:
            reports.append(report(call, "agreed", weight=weight))
        elif name in verdict.pending:
            reports.append(
                report(call, "stopped", weight=weight, why="the verdict could not change any more")
            )
        elif name in absences:
            outcome: MemberOutcome = (
                "failed" if call.error is not None and not call.stopped else "absent"
            )
            reports.append(report(call, outcome, weight=weight, why=absences[name]))
        else:
            reports.append(report(call, "dissented", weight=weight))
    return [*reports, *_helpers(task, task.members)]


def _helpers(task: Task, members: Sequence[MemberView]) -> list[MemberReport]:
    """Judges that were asked whether answers say the same."""
    return [
        report(call, "failed" if call.error else "used")
        for call in task.calls.log
        if call.role != "answer"
    ]


def _why(verdict: Verdict, voters: Sequence[Voter]) -> str:
    counted = len(verdict.support)
    words = f"{counted} of {len(voters)} agree"
    if verdict.dissent:
        words += f"; {described([one.member for one in verdict.dissent])} said something else"
    if verdict.pending:
        words += f"; {described(list(verdict.pending))} could not have changed it"
    return words
