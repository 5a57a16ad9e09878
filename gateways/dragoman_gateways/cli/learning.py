"""``dragoman learn``: labelled questions in, a file for an ensemble's option ``learned`` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from dragoman_agents.configuration.agreements import ByEmbedding, ByJudge
from dragoman_agents.configuration.ensembles import (
    CascadeTable,
    ConsensusTable,
    EnsembleTable,
    RouterTable,
)
from dragoman_agents.ensembles.admission import Labelled
from dragoman_agents.ensembles.agents.agreeing import agreement_of, choices_of
from dragoman_agents.ensembles.agents.escalating import stages_of
from dragoman_agents.ensembles.agents.knowledge import Knowledge, write_knowledge
from dragoman_agents.ensembles.agents.labels import ENOUGH_LABELS, Learned
from dragoman_agents.ensembles.agents.lessons import (
    Score,
    labelled,
    learn_cascade,
    learn_consensus,
    learn_qualities,
    prices_of,
    score_cascade,
    score_consensus,
    score_members,
)
from dragoman_agents.ensembles.agents.members import as_members
from dragoman_agents.ensembles.agents.store import Store
from dragoman_agents.ensembles.agents.voting import rule_of
from dragoman_agents.ensembles.cascade import Stage
from dragoman_bus.client import Bus
from dragoman_bus.protocol.errors import AgentUnavailable, LocalError, NotConfigured
from dragoman_bus.protocol.payloads import Contract
from dragoman_gateways.cli.bus_work import on_bus
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import console, error_console, printable, write_json
from dragoman_gateways.cli.schooling import School, read_lessons
from dragoman_gateways.cli.settings import Settings
from dragoman_gateways.cli.tables import make_table

__all__ = ["LearnRequest", "learn"]

Learning = ConsensusTable | CascadeTable | RouterTable


@dataclass(kw_only=True)
class LearnRequest:
    """What ``dragoman learn`` was told; see its help."""

    ensemble: str
    questions: Path | None
    answers: Path | None
    output: Path | None
    escalate: float
    at_once: int
    deadline: float


@dataclass(kw_only=True)
class Outcome:
    """What was learned, and how good members and ensemble are."""

    knowledge: Knowledge
    members: Mapping[str, Score]
    ensemble: Score | None = None


def learn(how: LearnRequest, settings: Settings) -> ExitCode:
    """Learn and write; see ``dragoman learn --help``."""
    table = _table(settings, how.ensemble)
    output = how.output or (None if table.learned is None else Path(table.learned))
    if output is None:
        raise NotConfigured(
            "say where to write with --output, and name the file in the ensemble's table: "
            f'learned = "{how.ensemble}.json"'
        )
    if how.questions is None and isinstance(table, CascadeTable):
        raise NotConfigured("a cascade learns from questions: name their file")

    async def work(bus: Bus) -> ExitCode:
        outcome = await (_from_labels if how.questions is None else _from_questions)(
            how, table, bus
        )
        _write(output, outcome.knowledge)
        _show(outcome, how.ensemble, output, settings)
        return ExitCode.OK

    return on_bus(work, settings)


def _table(settings: Settings, name: str) -> Learning:
    agents = settings.load().agents
    tables: dict[str, EnsembleTable] = {
        str(agent.name): agent.ensemble for agent in agents if agent.ensemble is not None
    }
    table = tables.get(name)
    if table is None:
        known = ", ".join(tables) or "none"
        raise NotConfigured(f"the configuration has no ensemble {name!r}; it has: {known}")
    if not isinstance(table, Learning):
        kind = type(table).__struct_config__.tag
        raise NotConfigured(f"{name!r} is of the kind {kind!r}, which learns nothing")
    if isinstance(table.agreement, ByJudge | ByEmbedding):
        raise NotConfigured(
            f"{name!r} has its answers compared by another agent; labels need an agreement that "
            "compares them by itself"
        )
    if isinstance(table, CascadeTable) and not table.stages:
        raise NotConfigured(f"{name!r} has no [[agents.ensemble.stages]] to learn for")
    if not isinstance(table, CascadeTable) and not table.members:
        raise NotConfigured(f"{name!r} does not name its members; write members = [...]")
    return table


async def _from_questions(how: LearnRequest, table: Learning, bus: Bus) -> Outcome:
    assert how.questions is not None
    members = _members(table)
    school = School(read_lessons(how.questions), members, how.answers)
    if not school.lessons:
        raise NotConfigured(f"{how.questions} has no questions")
    contract = await _contract(bus, table.skill, members, needed=bool(school.open))
    school.describe(contract, table.subject)
    school.check_truths(contract, agreement_of(table.agreement))
    if school.open:
        _note(f"asking {len(members)} members {len(school.open)} questions")
    await school.ask(
        bus, table.skill, at_once=how.at_once, deadline=how.deadline, done=_tell_progress
    )
    return _learned(table, school, members, contract, how.escalate)


def _learned(
    table: Learning,
    school: School,
    members: Sequence[str],
    contract: Contract | None,
    goes: float,
) -> Outcome:
    lessons, agreement = school.lessons, agreement_of(table.agreement)
    scores = score_members(lessons, members, agreement)
    if isinstance(table, CascadeTable):
        stages = [
            Stage(members=names, quorum=stage.quorum)
            for names, stage in zip(stages_of(table), table.stages, strict=True)
        ]
        try:
            cascade = learn_cascade(table.skill, lessons, stages, agreement, goes)
            score = score_cascade(lessons, stages, agreement, goes)
        except ValueError as error:
            raise LocalError(f"nothing can be learned: {error}", code="NOT_CONFIGURED") from None
        return Outcome(knowledge=cascade, members=scores, ensemble=score)
    known = labelled(lessons, members, agreement)
    if isinstance(table, RouterTable):
        return Outcome(knowledge=learn_qualities(table.skill, known), members=scores)
    choices = table.choices or choices_of(contract, table.agreement)
    prices = prices_of(lessons, members)
    return Outcome(
        knowledge=learn_consensus(table.skill, known, prices, choices=choices),
        members=scores,
        ensemble=score_consensus(known, members, rule_of(table, choices), choices=choices),
    )


async def _from_labels(how: LearnRequest, table: Learning, bus: Bus) -> Outcome:
    """From the labels that the ensemble's own skill ``feedback`` was given."""
    store = await Store.open(bus.transport)
    document = None if store is None else await store.read(f"learned.{how.ensemble}", Learned)
    if document is None or not document.labels:
        raise NotConfigured(
            f"{how.ensemble!r} was told no labels on this bus; name a file with questions"
        )
    members = _members(table)
    known = [
        Labelled(
            {name: one.answers[name] for name in members if name in one.answers},
            one.right,
            one.subject,
        )
        for one in document.labels
    ]
    scores = {
        name: Score(
            sum(name in one.answers and one.answers[name] == one.truth for one in known),
            sum(name in one.answers for one in known),
            sum(name in one.answers for one in known),
        )
        for name in members
    }
    if isinstance(table, RouterTable):
        return Outcome(knowledge=learn_qualities(table.skill, known), members=scores)
    assert isinstance(table, ConsensusTable)
    contract = await _contract(bus, table.skill, members, needed=False)
    choices = table.choices or choices_of(contract, table.agreement)
    return Outcome(
        knowledge=learn_consensus(table.skill, known, dict.fromkeys(members), choices=choices),
        members=scores,
        ensemble=score_consensus(known, members, rule_of(table, choices), choices=choices),
    )


def _members(table: Learning) -> list[str]:
    if isinstance(table, CascadeTable):
        return list(dict.fromkeys(name for stage in stages_of(table) for name in stage))
    return [member.agent for member in as_members(table.members)]


async def _contract(
    bus: Bus, skill: str, members: Sequence[str], *, needed: bool
) -> Contract | None:
    """That of the first member that is there."""
    views = [view for view in await bus.discover(skill=skill) if view.name in members]
    absent = sorted(set(members) - {view.name for view in views})
    if needed and absent:
        raise AgentUnavailable(
            f"{', '.join(absent)}: not on the bus with the skill {skill!r}; start the members first"
        )
    return views[0].contract(skill) if views else None


def _write(path: Path, knowledge: Knowledge) -> None:
    try:
        write_knowledge(path, knowledge)
    except OSError as error:
        raise NotConfigured(f"{path} cannot be written: {error.strerror}") from None


def _show(outcome: Outcome, name: str, path: Path, settings: Settings) -> None:
    knowledge = outcome.knowledge
    if settings.json:
        write_json(
            {
                "ensemble": name,
                "file": str(path),
                "knowledge": knowledge,
                "members": {who: _figures(score) for who, score in outcome.members.items()},
                "score": None if outcome.ensemble is None else _figures(outcome.ensemble),
            }
        )
        return
    weights = getattr(knowledge, "weights", None)
    own = {} if weights is None else weights.weights()
    table = make_table(["", "RIGHT", "ANSWERED", "OF", "COSTS", "WEIGHT"])
    for who, score in outcome.members.items():
        weight = f"{own[who]:.2f}" if who in own else ""
        table.add_row(Text(printable(who), style="bold"), *_cells(score), weight)
    if outcome.ensemble is not None:
        table.add_row(Text(printable(name), style="bold green"), *_cells(outcome.ensemble), "")
    console().print(table)
    if outcome.ensemble is not None:
        _note(f"{name}: of questions that it did not learn from")
    if knowledge.labels < ENOUGH_LABELS:
        _note(f"{knowledge.labels} labels are few; from {ENOUGH_LABELS} on they count in full")
    _note(f"wrote {path}")


def _cells(score: Score) -> tuple[str, str, str, str]:
    price = "unknown" if score.price is None else f"{score.price:.6g}"
    return f"{score.share:.1%}", str(score.given), str(score.seen), price


def _figures(score: Score) -> dict[str, Any]:
    return msgspec.to_builtins(score)  # type: ignore[no-any-return]


def _tell_progress(done: int, whole: int) -> None:
    if done == whole or done % max(1, whole // 10) == 0:
        _note(f"{done} of {whole}")


def _note(words: str) -> None:
    error_console().print(printable(words), style="dim", markup=False)
