"""Cross-check: one member answers, others check, and the answer is repaired within a limit.

Spec: spec/ensembles.md, checkers and judges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from dragoman_agents.agent import Agent
from dragoman_agents.configuration.ensembles import CrossCheckTable
from dragoman_agents.ensembles.agents.accounts import described, report, unasked
from dragoman_agents.ensembles.agents.base import Ensemble
from dragoman_agents.ensembles.agents.making import make
from dragoman_agents.ensembles.agents.member_call import Call
from dragoman_agents.ensembles.agents.members import MemberView, Roster, as_members
from dragoman_agents.ensembles.agents.task import Task
from dragoman_agents.ensembles.agents.wording import (
    criteria_text,
    question_text,
    value_text,
    verdict_of,
)
from dragoman_bus.protocol.receipts import MemberOutcome, MemberReport

__all__ = ["CrossCheck", "cross_check"]


class _Round(Struct, kw_only=True):
    """One answer and what the checkers said of it."""

    answer: Call
    approved: list[str]
    objections: dict[str, str]
    silent: list[str]
    accepted: bool = False

    def take(self, check: Call) -> None:
        """Note what a checker said."""
        accepts, why = verdict_of(check.value)
        if accepts is None:
            self.silent.append(check.name)
        elif accepts:
            self.approved.append(check.name)
        else:
            self.objections[check.name] = why


class CrossCheck(Ensemble[CrossCheckTable]):
    """An ensemble whose answers are checked. See ``cross_check``."""

    kind = "cross_check"

    def __init__(self, name: str, table: CrossCheckTable, **rest: Any) -> None:
        super().__init__(name, table, **rest)
        self._checkers = Roster(name, table.check, as_members(table.checkers))

    async def answer(self, task: Task, input: Any) -> Any:
        """Answer, have it checked, and repair it as often as is allowed."""
        checkers, missing = await self._checkers.present(task.ctx.bus, above=task.ctx.above)
        task.missing += missing
        rounds: list[_Round] = []
        for number in range(self.table.repairs + 1):
            call = await self._write(task, input, rounds[-1] if rounds else None, number)
            if call is None:
                break
            rounds.append(await self._check(task, input, call, checkers))
            if rounds[-1].accepted:
                break
        return self._given(task, rounds)

    async def _write(
        self, task: Task, input: Any, before: _Round | None, number: int
    ) -> Call | None:
        """A first answer, or a better one; ``None`` when nobody gives any."""
        if before is not None and self.table.repair is not None:
            return await self._repair(task, input, before, self.table.repair)
        # Each round begins with another member: the one whose answer was refused comes last.
        start = number % max(1, len(task.members))
        for member in [*task.members[start:], *task.members[:start]]:
            # The checkers need time as well.
            call = await task.calls.ask_within(
                member, role="answer", seconds=task.calls.step_seconds
            )
            if call.result is not None:
                return call
        return None

    async def _repair(self, task: Task, input: Any, before: _Round, skill: str) -> Call | None:
        objections = [words for words in before.objections.values() if words]
        request = {
            "question": question_text(input),
            "answer": value_text(before.answer.value),
            "objections": criteria_text(objections),
        }
        call = await task.calls.ask_helper(skill, None, request, role="repair")
        return call if call.result is not None else None

    async def _check(
        self, task: Task, input: Any, answer: Call, checkers: Sequence[MemberView]
    ) -> _Round:
        # Nobody checks its own answer.
        others = [checker for checker in checkers if checker.name != answer.name]
        grant = task.calls.spending.grant(others)
        task.missing += grant.refused
        request = {
            "question": question_text(input),
            "answer": value_text(answer.value),
            "criteria": criteria_text(self.table.criteria),
        }
        judged = _Round(answer=answer, approved=[], objections={}, silent=[])
        needed = self.table.approvals or len(grant.members) // 2 + 1
        checks = {
            asyncio.create_task(
                task.calls.ask(
                    checker,
                    grant=grant,
                    role="check",
                    skill=self.table.check,
                    input=request,
                    contract=checker.contract,
                    # An answer that is refused, if only for silence, may be repaired.
                    seconds=task.calls.step_seconds,
                )
            )
            for checker in grant.members
        }
        try:
            # Objections of all help a repair, but of an accepted answer no more is needed.
            while checks and len(judged.approved) < needed:
                done, checks = await asyncio.wait(checks, return_when=asyncio.FIRST_COMPLETED)
                for check in done:
                    judged.take(check.result())
        finally:
            for check in checks:
                check.cancel()
            if checks:
                await asyncio.wait(checks)
        judged.accepted = len(judged.approved) >= needed
        return judged

    def _given(self, task: Task, rounds: list[_Round]) -> Any:
        reports = self._reports(task, rounds)
        if not rounds:
            raise task.abstain("no member gave an answer", reports)
        last = rounds[-1]
        words = _why(rounds)
        if not last.accepted and self.table.on_doubt == "abstain":
            raise task.abstain(words, reports)
        verdict = "accepted" if last.accepted else "doubtful"
        task.tell(verdict, words, reports, chosen=last.answer)  # type: ignore[arg-type]
        return last.answer.value

    def _reports(self, task: Task, rounds: list[_Round]) -> list[MemberReport]:
        chosen = rounds[-1] if rounds else None
        given = chosen is not None and (chosen.accepted or self.table.on_doubt == "answer")
        objections = {
            check: words for judged in rounds for check, words in judged.objections.items()
        }
        reports = []
        for call in task.calls.log:
            if given and chosen is not None and call is chosen.answer:
                reports.append(report(call, "chosen", tells_answer=False))
            elif call.stopped or call.error is not None:
                outcome: MemberOutcome = "stopped" if call.stopped else "failed"
                needless = "enough of the others accept" if call.stopped else None
                reports.append(report(call, outcome, why=needless))
            elif call.role == "check":
                accepts, why = verdict_of(call.value)
                outcome = "agreed" if accepts else "dissented"
                reports.append(report(call, outcome, why=why or None))
            else:
                reports.append(report(call, "dissented", why=described(list(objections.values()))))
        asked = {call.name for call in task.calls.log}
        spare = [member for member in task.members if member.name not in asked]
        return [*reports, *(unasked(member, "it was not needed") for member in spare)]


def cross_check(
    name: str,
    **options: Any,
) -> Agent:
    """An agent whose answers are checked by others, and repaired or held back.

    ``cross_check("sure", skill="answer", members=["gpt"], check="review", criteria=["It cites"])``.

    Args:
        name: Its name.
        options: The members of ``CrossCheckTable``, and of ``AgentOptions``.

    Raises:
        NotConfigured: an option that is unknown or cannot be.
    """
    return make(CrossCheck, CrossCheckTable, name, options)


def _why(rounds: list[_Round]) -> str:
    last = rounds[-1]
    checked = len(last.approved) + len(last.objections) + len(last.silent)
    if not checked:
        return "nobody was there to check the answer"
    words = f"{len(last.approved)} of {checked} checkers accept"
    if last.objections:
        words += f"; {described(list(last.objections))} objects"
    if len(rounds) > 1:
        words += f"; it is answer number {len(rounds)}"
    return words
