"""Cascade: the cheapest capable members first; the next stage when their answer is doubtful.

Spec: spec/ensembles.md, cascade. Doubt is decided by ``ensembles.cascade``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UnsetType

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import CascadeTable
from dragoman_agents.ensembles.agents.accounts import report, unasked, unused
from dragoman_agents.ensembles.agents.agreeing import (
    AgreementOption,
    agreement_of,
)
from dragoman_agents.ensembles.agents.base import Ensemble, subject_of
from dragoman_agents.ensembles.agents.knowledge import CascadeKnowledge, read_knowledge
from dragoman_agents.ensembles.agents.making import make
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView, Roster, as_members
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.agents.wording import question_text, value_text, verdict_of
from dragoman_agents.ensembles.agreement import Agreement, SchemaField
from dragoman_agents.ensembles.cascade import (
    Answer,
    Cascade,
    CascadeResult,
    Stage,
    cheapest_first,
)
from dragoman_agents.ensembles.escalation import Escalation
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.protocol.receipts import EnsembleVerdict, MemberOutcome, MemberReport

__all__ = ["Escalating", "cascade", "stages_of"]


class Escalating(Ensemble[CascadeTable]):
    """An ensemble that asks in stages. See ``cascade``."""

    kind = "cascade"

    def __init__(
        self,
        name: str,
        table: CascadeTable,
        *,
        agreement: Agreement | None = None,
        escalations: Sequence[Escalation | None] = (),
        **rest: Any,
    ) -> None:
        super().__init__(name, table, **rest)
        self._agreement = agreement or agreement_of(table.agreement)
        self._escalations = tuple(escalations) or _learned(name, table)
        if table.stages:
            named = [member for stage in table.stages for member in as_members(stage.members)]
            unique = {member.agent: member for member in named}
            self.roster = Roster(name, table.skill, list(unique.values()))

    async def answer(self, task: Task, input: Any) -> Any:
        """Ask stage after stage until an answer is beyond doubt."""
        members = {member.name: member for member in task.members}
        run = Cascade(
            self._stages(task),
            self._agreement,
            escalations=self._escalations,
            subject=subject_of(input, self.table.subject),
            input_tokens=task.calls.spending.input_tokens,
        )
        for missing in task.missing:
            run.absent(missing.agent, missing.why)
        result: CascadeResult | None = None
        while result is None:
            await self._ask(task, run, [members[name] for name in run.to_ask], input)
            result = run.advance()
        if result.by is None and run.unheard:
            # They were stopped when their stage could not agree any more. Now nobody else is left.
            await self._ask(task, run, [members[name] for name in run.unheard], input, last=True)
            result = run.reconsider()
        return self._given(task, run, result)

    def _stages(self, task: Task) -> list[Stage]:
        if self.table.stages:
            return [
                Stage(
                    members=tuple(member.agent for member in as_members(stage.members)),
                    quorum=stage.quorum,
                    minimum_confidence=stage.minimum_confidence or self.table.minimum_confidence,
                )
                for stage in self.table.stages
            ]
        if not task.members:
            raise task.abstain("no member can be asked", [])
        expected = {one.name: task.calls.spending.expected(one) for one in task.members}
        prices = {name: None if cost is None else cost.amount for name, cost in expected.items()}
        return [
            Stage(members=stage.members, minimum_confidence=self.table.minimum_confidence)
            for stage in cheapest_first(prices)
        ]

    async def _ask(
        self,
        task: Task,
        run: Cascade,
        members: list[MemberView],
        input: Any,
        *,
        last: bool = False,
    ) -> None:
        """Ask the members of a stage, and have their answers checked."""
        grant = task.calls.spending.grant(members)
        for refused in grant.refused:
            run.absent(refused.agent, refused.why)
        task.missing += grant.refused
        known = len(task.calls.log)
        async with task.calls.together(grant, until=self._seconds(task, run)) as asked:
            while last or not run.settled:
                call = await asked.next()
                if call is None:
                    break
                await self._hear(task, run, call, input)
            needless = run.settled
        for call in task.calls.log[known:]:
            is_open = call.role == "answer" and not run.is_heard(call.name)
            if is_open and not (call.stopped and needless):
                await self._hear(task, run, call, input)

    def _seconds(self, task: Task, run: Cascade) -> float | None:
        """How long the present stage may take: it must not keep the next one from answering."""
        given = self.table.stage_seconds
        if run.at == len(run.stages) - 1:
            return given
        return task.calls.step_seconds if given is None else given

    async def _hear(self, task: Task, run: Cascade, call: Call, input: Any) -> None:
        if call.result is None:
            if call.code == "INVALID_OUTPUT":
                run.answer(call.name, Answer(value=None, fits=False))
            else:
                words = "it did not answer in time" if call.error is None else call.error.message
                run.absent(call.name, words)
            return
        usage = call.usage
        tokens = None if usage is None else usage.output_tokens
        run.answer(
            call.name,
            Answer(
                value=call.value,
                confidence=self._confidence(call.value),
                passed=await self._passes(task, input, call),
                model=call.member.model_name,
                output_tokens=None if isinstance(tokens, UnsetType) else tokens,
            ),
        )

    def _confidence(self, value: Any) -> float | None:
        if self.table.confidence is None:
            return None
        told = SchemaField(self.table.confidence).pick(value)
        return float(told) if isinstance(told, int | float) else None

    async def _passes(self, task: Task, input: Any, call: Call) -> bool:
        """Whether the check accepts an answer; one that cannot be checked does not pass."""
        if self.table.check is None:
            return True
        request = {"question": question_text(input), "answer": value_text(call.value)}
        checked = await task.calls.ask_helper(
            self.table.check, self.table.check_agent, request, role="check"
        )
        return verdict_of(checked.value)[0] is True

    def _given(self, task: Task, run: Cascade, result: CascadeResult) -> Any:
        calls = {call.name: call for call in task.calls.log if call.role == "answer"}
        words = _why(run, result)
        reports = self._reports(task, calls, result)
        if result.by is None or not (result.accepted or self.table.on_doubt == "answer"):
            raise task.abstain(words, reports)
        verdict: EnsembleVerdict = "accepted" if result.accepted else "doubtful"
        task.tell(verdict, words, reports, chosen=calls[result.by])
        return result.value

    def _reports(
        self, task: Task, calls: dict[str, Call], result: CascadeResult
    ) -> list[MemberReport]:
        dissent = {one.member for one in result.dissent}
        reports = []
        for member in task.members:
            call = calls.get(member.name)
            if call is None:
                reports.append(unasked(member, "its stage was not reached"))
            elif member.name == result.by:
                reports.append(report(call, "chosen", tells_answer=False))
            elif call.stopped:
                reports.append(report(call, "stopped"))
            elif call.error is not None:
                reports.append(report(call, "failed"))
            else:
                differs = member.name in dissent or result.by is None
                outcome: MemberOutcome = "dissented" if differs else "agreed"
                reports.append(report(call, outcome))
        checks = [call for call in task.calls.log if call.role != "answer"]
        return [*reports, *unused(checks)]


def cascade(
    name: str,
    *,
    agreement: Agreement | AgreementOption | None = None,
    escalations: Sequence[Escalation | None] = (),
    **options: Any,
) -> Agent:
    """An agent that asks cheap members first, and dearer ones only when it is in doubt.

    ``cascade("careful", skill="answer", stages=[{"members": ["small", "tiny"]},
    {"members": ["large"]}])``.

    Args:
        name: Its name.
        agreement: When two answers say the same: as in a file, or an object.
        escalations: For each stage but the last what was learned of when to go on.
        options: The members of ``CascadeTable``, and of ``AgentOptions``.

    Raises:
        NotConfigured: an option that is unknown or cannot be.
    """
    return make(
        Escalating, CascadeTable, name, options, agreement=agreement, escalations=escalations
    )


def _learned(name: str, table: CascadeTable) -> tuple[Escalation, ...]:
    """What the file that the table names holds; nothing when it names none.

    Raises:
        NotConfigured: the file is missing, or was learned for other stages.
    """
    if table.learned is None:
        return ()
    known = read_knowledge(table.learned, CascadeKnowledge, ensemble=name, skill=table.skill)
    stages = stages_of(table)
    if known.stages != stages:
        raise NotConfigured(
            f"ensemble {name}: {table.learned} was learned for the stages "
            f"{msgspec.json.encode(known.stages).decode()}, and here they are "
            f"{msgspec.json.encode(stages).decode()}; `dragoman learn {name} QUESTIONS` learns anew"
        )
    return known.escalations


def stages_of(table: CascadeTable) -> tuple[tuple[str, ...], ...]:
    """The names of the members of each stage."""
    return tuple(
        tuple(member.agent for member in as_members(stage.members)) for stage in table.stages
    )


def _why(run: Cascade, result: CascadeResult) -> str:
    total = len(run.stages)
    doubts = [
        f"stage {number} was in doubt ({doubt.replace('_', ' ')})"
        for number, doubt in enumerate(result.doubts, 1)
    ]
    if result.by is None:
        return "; ".join(doubts) or "no stage gave an answer"
    return "; ".join([*doubts, f"the answer is that of stage {result.stage + 1} of {total}"])
