"""Consensus: members vote, with one publish, until nothing can change the verdict.

Spec: spec/ensembles.md, consensus. Who wins is decided by ``ensembles.votes``.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

from msgspec import structs

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import ConsensusTable
from dragoman_agents.ensembles.agents.accounts import described, report, unasked, unused
from dragoman_agents.ensembles.agents.agreeing import (
    AgreementOption,
    Comparing,
    agreement_of,
    choices_of,
    comparing,
)
from dragoman_agents.ensembles.agents.base import Ensemble, subject_of
from dragoman_agents.ensembles.agents.knowledge import ConsensusKnowledge, read_knowledge
from dragoman_agents.ensembles.agents.labels import Ballot, Weights
from dragoman_agents.ensembles.agents.learning import Learning
from dragoman_agents.ensembles.agents.making import make
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView, as_members
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.agreement import Agreement
from dragoman_agents.ensembles.votes import Verdict, Vote, Voter, VoteRule
from dragoman_bus.client import Bus
from dragoman_bus.protocol.receipts import MemberOutcome, MemberReport

__all__ = ["Consensus", "consensus", "rule_of"]

logger = logging.getLogger("dragoman.ensembles")


class Consensus(Ensemble[ConsensusTable]):
    """An ensemble whose members vote. See ``consensus``."""

    kind = "consensus"

    def __init__(
        self, name: str, table: ConsensusTable, *, agreement: Agreement | None = None, **rest: Any
    ) -> None:
        super().__init__(name, _with_knowledge(name, table), **rest)
        table = self.table
        self._agreement = agreement or table.agreement
        self.learning = Learning(
            name, agreement_of(self._agreement), margin=table.margin, given=table.weights
        )
        self.offer_feedback()

    async def start(self, bus: Bus) -> None:
        """Take over the members' contract, and what was learned before."""
        await super().start(bus)
        self._knowledge.reputation.choices = self._choices()

    async def answer(self, task: Task, input: Any) -> Any:
        """Have the members vote."""
        subject = subject_of(input, self.table.subject)
        weights = self._knowledge.weights(task.members, subject=subject, quorum=self.table.quorum)
        poll = _Poll(self.table, task, weights, comparing(self._agreement), self._choices())
        verdict = await poll.hear()
        self._learn(task, poll, verdict, subject)
        facts = {
            "share": round(verdict.share, 6),
            "confidence": round(poll.confidence(verdict), 6),
            "calibrated": weights.basis == "labels",
        }
        reports = poll.reports(verdict)
        if verdict.abstained:
            raise task.abstain(_why_not(verdict, self.table), reports, **facts)
        assert verdict.by is not None
        words = _why(verdict, poll.size)
        task.tell("agreed", words, reports, chosen=poll.heard[verdict.by], **facts)
        return verdict.value

    def _learn(self, task: Task, poll: _Poll, verdict: Verdict, subject: str) -> None:
        answers = poll.answers()
        self._knowledge.remember(task.ctx.task_id, Ballot(answers, verdict.by, subject))
        if self.table.learn == "consensus":
            self._knowledge.observe_consensus(answers)

    def _choices(self) -> int:
        if self.table.choices is not None:
            return self.table.choices
        if self.table.weights is not None:
            return self.table.weights.choices
        return choices_of(self.contract, self.table.agreement)

    @property
    def _knowledge(self) -> Learning:
        assert self.learning is not None
        return self.learning


class _Poll:
    """One vote on the bus: whom to ask, what they said, and when it is enough."""

    def __init__(
        self, table: ConsensusTable, task: Task, weights: Weights, way: Comparing, choices: int
    ) -> None:
        self._table = table
        self._task = task
        self._weights = weights.of
        self._way = way
        self.heard: dict[str, Call] = {}
        self._unasked: set[str] = set()
        rule = rule_of(table, choices if weights.are_log_odds else None)
        voters = [Voter(one.name, weights.of[one.name], one.model_name) for one in task.members]
        given = {one.agent: one.weight for one in as_members(table.members)}
        # A family that is missing may have the name of an agent that is there.
        gone = {one.agent: one.why for one in task.missing if one.agent not in weights.of}
        missing = [Voter(name, 1.0 if (own := given.get(name)) is None else own) for name in gone]
        self._vote = Vote([*voters, *missing], rule, way.agreement)
        for name, why in gone.items():
            self._vote.absent(name, why)

    @property
    def size(self) -> int:
        """How many members there are, those that cannot be asked included."""
        return len(self._vote.voters)

    async def hear(self) -> Verdict:
        """Collect votes until the verdict stands."""
        members = {one.name: one for one in self._task.members}
        counted = [name for name in members if self._counts(name)]
        self._unasked = members.keys() - set(counted)
        if self._table.ask == "as_needed" and self._table.stop_early:
            order = list(self._table.order) or self._by_use(members)
            while wave := self._vote.next_to_ask(order):
                if not await self._ask([members[name] for name in wave]):
                    break
        elif not self._is_enough():
            await self._ask([members[name] for name in counted])
        answers = [call.value for call in self.heard.values() if call.result is not None]
        await self._way.prepare(answers, self._task.calls)
        return self._vote.verdict()

    async def _ask(self, members: list[MemberView]) -> bool:
        """Put the question to these; whether there is time for more."""
        grant = self._task.calls.spending.grant(members)
        for refused in grant.refused:
            self._vote.absent(refused.agent, refused.why)
        self._task.missing += grant.refused
        known = len(self._task.calls.log)
        in_time = True
        until = None if self._way.is_ready else self._task.calls.step_seconds
        async with self._task.calls.together(grant, until=until) as asked:
            while not self._is_enough():
                call = await asked.next()
                if call is None:
                    in_time = asked.is_complete
                    break
                self._hear(call)
            decided = self._vote.decided
        for call in self._task.calls.log[known:]:
            if call.name in self.heard:
                continue
            if call.result is not None or decided:
                # About to answer when it was stopped: that is paid for, so it counts.
                self._hear(call)
            else:
                self.heard[call.name] = call
                self._vote.absent(call.name, "it did not answer in time")
        return in_time

    def _hear(self, call: Call) -> None:
        self.heard[call.name] = call
        if call.result is not None:
            self._vote.cast(call.name, call.value)
        elif not call.stopped:
            error = call.error
            self._vote.absent(call.name, "it failed" if error is None else error.message)

    def _is_enough(self) -> bool:
        return self._table.stop_early and self._vote.decided

    def _counts(self, name: str) -> bool:
        """Whether to ask it: one without weight only now and then, to see how it does."""
        return self._weights[name] > 0 or random.random() < self._table.explore

    def _by_use(self, members: Mapping[str, MemberView]) -> list[str]:
        """Whom to ask first when few are to be asked: much weight for little money."""
        spending = self._task.calls.spending
        costs = {name: spending.expected(member) for name, member in members.items()}
        known = [cost.amount for cost in costs.values() if cost is not None]
        dearest = max(known, default=0.0)

        def use(name: str) -> float:
            cost = costs[name]
            amount = dearest if cost is None else cost.amount
            return self._weights[name] / amount if amount else self._weights[name]

        return sorted(members, key=use, reverse=True)

    def answers(self) -> dict[str, Any]:
        """What each member said."""
        return {name: call.value for name, call in self.heard.items() if call.result is not None}

    def confidence(self, verdict: Verdict) -> float:
        """How likely right the leading answer is; without learned weights, its backing."""
        return verdict.backing if verdict.confidence is None else verdict.confidence

    def reports(self, verdict: Verdict) -> list[MemberReport]:
        """What became of each member, and of judges that were asked whether answers agree."""
        absences = {one.member: one.why for one in verdict.absent}
        reports = []
        for member in self._task.members:
            call = self.heard.get(member.name)
            if call is not None:
                reports.append(self._report(call, verdict, absences))
            elif member.name not in absences:
                little = member.name in self._unasked
                words = "its word counts nothing" if little else "it was not needed"
                reports.append(unasked(member, words))
        helpers = [call for call in self._task.calls.log if call.role != "answer"]
        return [*reports, *unused(helpers)]

    def _report(self, call: Call, verdict: Verdict, absences: Mapping[str, str]) -> MemberReport:
        name, weight = call.name, self._weights[call.name]
        if name == verdict.by:
            return report(call, "chosen", weight=weight, tells_answer=False)
        if name in verdict.support:
            return report(call, "agreed", weight=weight)
        if name in absences:
            failed = call.error is not None and not call.stopped
            outcome: MemberOutcome = "failed" if failed else "absent"
            return report(call, outcome, weight=weight, why=absences[name])
        if call.result is not None:
            return report(call, "dissented", weight=weight)
        return report(call, "stopped", weight=weight, why="its vote could change nothing any more")


def consensus(
    name: str,
    *,
    agreement: Agreement | AgreementOption | None = None,
    **options: Any,
) -> Agent:
    """An agent that asks several members the same and gives the answer on which they agree.

    ``consensus("vote", skill="classify", members=["gpt", "llama", "rules"], quorum=2)``.

    Args:
        name: Its name.
        agreement: When two answers say the same: as in a file, or an object.
        options: The members of ``ConsensusTable``, and of ``AgentOptions``.

    Raises:
        NotConfigured: an option that is unknown or cannot be.
    """
    return make(Consensus, ConsensusTable, name, options, agreement=agreement)


def rule_of(table: ConsensusTable, choices: int | None) -> VoteRule:
    """What makes a verdict, with ``choices`` where weights are log-odds."""
    sure = choices is not None
    return VoteRule(
        quorum=table.quorum,
        minimum_share=table.minimum_share,
        minimum_confidence=table.minimum_confidence if sure else 0.0,
        # Without log-odds, what part of all members agrees is all that is known of confidence.
        minimum_backing=0.0 if sure else table.minimum_confidence,
        choices=choices,
        tie=table.tie,
    )


def _with_knowledge(name: str, table: ConsensusTable) -> ConsensusTable:
    """The table with what the file that it names holds."""
    if table.learned is None:
        return table
    known = read_knowledge(table.learned, ConsensusKnowledge, ensemble=name, skill=table.skill)
    strangers = {one.agent for one in as_members(table.members)} - known.weights.overall.keys()
    if strangers:
        logger.warning(
            "ensemble %s: nothing was learned of %s, whose word counts nothing",
            name,
            described(sorted(strangers)),
        )
    order = table.order or known.order
    return structs.replace(table, learned=None, weights=known.weights, order=order)


def _why_not(verdict: Verdict, table: ConsensusTable) -> str:
    if verdict.reason == "no_answer" and verdict.pending:
        return "what all members together could say would not be enough"
    if verdict.reason == "no_answer":
        return "no member gave an answer"
    if verdict.reason == "tie":
        return "the members are split evenly"
    if verdict.reason == "no_quorum":
        return f"fewer than {table.quorum} members agree"
    words = f"the leading answer has {verdict.share:.0%} of the vote"
    if verdict.confidence is not None:
        words += f", and is right with {verdict.confidence:.0%}"
    elif verdict.reason == "low_confidence":
        words += f", and {verdict.backing:.0%} of all members behind it"
    return f"{words}: that is not enough"


def _why(verdict: Verdict, members: int) -> str:
    counted = len(verdict.support)
    words = f"{counted} of {members} agree"
    if verdict.dissent:
        words += f"; {described([one.member for one in verdict.dissent])} said something else"
    if verdict.pending:
        words += f"; {described(list(verdict.pending))} could not have changed it"
    return words
