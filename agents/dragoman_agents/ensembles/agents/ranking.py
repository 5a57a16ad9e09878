"""Judge: members answer, judges compare the answers in pairs and both orders, the best is given.

Spec: spec/ensembles.md, checkers and judges. Ranks come from ``ensembles.judging``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import JudgeTable
from dragoman_agents.ensembles.agents.accounts import report, summed
from dragoman_agents.ensembles.agents.agreeing import (
    AgreementOption,
    agreement_of,
)
from dragoman_agents.ensembles.agents.base import Ensemble
from dragoman_agents.ensembles.agents.making import make
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView, Roster, as_members
from dragoman_agents.ensembles.agents.spending import Turns
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.agents.wording import (
    criteria_text,
    preference_of,
    question_text,
    value_text,
)
from dragoman_agents.ensembles.agreement import Agreement, group
from dragoman_agents.ensembles.judging import Comparison, Panel, Ranking
from dragoman_bus.protocol.receipts import ConsideredAgent, EnsembleVerdict, MemberReport

__all__ = ["Judging", "judge"]

AT_ONCE = 16
"""How many comparisons are at work at the same time."""


class Judging(Ensemble[JudgeTable]):
    """An ensemble whose answers are ranked. See ``judge``."""

    kind = "judge"

    def __init__(
        self, name: str, table: JudgeTable, *, agreement: Agreement | None = None, **rest: Any
    ) -> None:
        super().__init__(name, table, **rest)
        self._agreement = agreement or agreement_of(table.agreement)
        self._judges = Roster(name, table.compare, as_members(table.judges))

    async def answer(self, task: Task, input: Any) -> Any:
        """Collect answers and give the one that the judges prefer."""
        judges, missing = await self._judges.present(task.ctx.bus, above=task.ctx.above)
        task.missing += missing
        answers = await self._collect(task)
        if not answers:
            raise task.abstain("no member gave an answer", self._reports(task, None, [], None))
        camps = self._camps(answers)
        heads = [camp[0] for camp in camps]
        if len(heads) == 1:
            return self._give(task, heads[0], camps, None, "agreed", "all members say the same")
        ranking = await self._rank(task, input, camps, judges)
        if ranking is None:
            words = "nobody was there to compare the answers"
            return self._doubt(task, heads[0], camps, None, words)
        best = next(call for call in heads if call.name == ranking.order[0])
        if ranking.tied:
            return self._doubt(task, best, camps, ranking, "the judges are undecided")
        points = ranking.points[best.name]
        words = f"{best.name} won {points:g} of {_pairs(ranking):g} comparisons"
        return self._give(task, best, camps, ranking, "accepted", words)

    async def _collect(self, task: Task) -> list[Call]:
        grant = task.calls.spending.grant(task.members)
        task.missing += grant.refused
        # Without judges all answers are worth little, so one that is late is not waited for.
        async with task.calls.together(grant, until=task.calls.step_seconds) as asked:
            while await asked.next() is not None:
                pass
        ranks = {member.name: rank for rank, member in enumerate(task.members)}
        found = [call for call in task.calls.log if call.result is not None]
        return sorted(found, key=lambda call: ranks[call.name])

    def _camps(self, answers: list[Call]) -> list[list[Call]]:
        """Answers that say the same are one candidate, under the name of the first member."""
        usable = [call for call in answers if self._agreement.usable(call.value)]
        groups = group([call.value for call in usable], self._agreement)
        return [[usable[index] for index in members] for members in groups] or [[answers[0]]]

    async def _rank(
        self, task: Task, input: Any, camps: list[list[Call]], judges: Sequence[MemberView]
    ) -> Ranking | None:
        heads = {camp[0].name: camp[0] for camp in camps}
        own = {
            judge.name: frozenset(
                camp[0].name for camp in camps if judge.name in {call.name for call in camp}
            )
            for judge in judges
        }
        panel = Panel([judge.name for judge in judges], list(heads), own=own)
        by_name = {judge.name: judge for judge in judges}
        pairs = panel.comparisons()
        turns = Turns(len(pairs), AT_ONCE)

        async def compare(pair: Comparison) -> None:
            async with turns:
                judge = by_name[pair.judge]
                call = await self._compare(task, input, judge, heads, pair, turns.parts)
            preference = preference_of(call.value)
            if preference is not None:
                panel.record(pair, preference)

        await asyncio.gather(*(compare(pair) for pair in pairs))
        ranking = panel.ranking()
        return ranking if ranking.inconsistent else None

    async def _compare(
        self,
        task: Task,
        input: Any,
        judge: MemberView,
        heads: dict[str, Call],
        pair: Comparison,
        parts: int,
    ) -> Call:
        return await task.calls.ask_within(
            judge,
            role="judge",
            parts=parts,
            skill=self.table.compare,
            input={
                "question": question_text(input),
                "first": value_text(heads[pair.first].value),
                "second": value_text(heads[pair.second].value),
                "criteria": criteria_text(self.table.criteria),
            },
            contract=judge.contract,
        )

    def _doubt(
        self, task: Task, best: Call, camps: list[list[Call]], ranking: Ranking | None, words: str
    ) -> Any:
        if self.table.on_doubt == "abstain":
            reports = self._reports(task, None, camps, ranking)
            raise task.abstain(words, reports, candidates=_considered(ranking))
        return self._give(task, best, camps, ranking, "doubtful", words)

    def _give(
        self,
        task: Task,
        best: Call,
        camps: list[list[Call]],
        ranking: Ranking | None,
        verdict: EnsembleVerdict,
        words: str,
    ) -> Any:
        reports = self._reports(task, best, camps, ranking)
        task.tell(verdict, words, reports, chosen=best, candidates=_considered(ranking))
        return best.value

    def _reports(
        self, task: Task, best: Call | None, camps: list[list[Call]], ranking: Ranking | None
    ) -> list[MemberReport]:
        same = {call.name for camp in camps for call in camp if best is not None and best in camp}
        reports = []
        for call in task.calls.log:
            if call.role != "answer":
                continue
            if call is best:
                reports.append(report(call, "chosen", tells_answer=False))
            elif call.stopped or call.error is not None:
                reports.append(report(call, "stopped" if call.stopped else "failed"))
            else:
                reports.append(report(call, "agreed" if call.name in same else "dissented"))
        turned = {} if ranking is None else ranking.inconsistent
        comparisons = [call for call in task.calls.log if call.role == "judge"]

        def words(name: str, count: int) -> str:
            said = f"{count} comparisons"
            return f"{said}, {turned[name]:.0%} turned with the order" if name in turned else said

        return [*reports, *summed(comparisons, words)]


def judge(
    name: str,
    *,
    agreement: Agreement | AgreementOption | None = None,
    **options: Any,
) -> Agent:
    """An agent that has its members' answers compared by judges and gives the best.

    ``judge("best", skill="answer", members=["gpt", "llama"], compare="compare")``.

    Args:
        name: Its name.
        agreement: Answers that say the same are compared once: as in a file, or an object.
        options: The members of ``JudgeTable``, and of ``AgentOptions``.

    Raises:
        NotConfigured: an option that is unknown or cannot be.
    """
    return make(Judging, JudgeTable, name, options, agreement=agreement)


def _pairs(ranking: Ranking) -> float:
    """How many comparisons each answer was in: every pair gives one point, to one or to two."""
    return 2 * sum(ranking.points.values()) / len(ranking.points)


def _considered(ranking: Ranking | None) -> list[ConsideredAgent] | None:
    if ranking is None:
        return None
    return [
        ConsideredAgent(
            agent=name, score=ranking.points[name], why=f"rank {rank} by {ranking.points[name]:g}"
        )
        for rank, name in enumerate(ranking.order, 1)
    ]
