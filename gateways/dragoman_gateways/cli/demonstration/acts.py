"""The tasks of the demo: published to skills, streamed, and told in a line or two each."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from dragoman_bus.client import Bus, Result
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent
from dragoman_bus.protocol.errors import LocalError
from dragoman_gateways.cli.accounts import account_of, member_lines
from dragoman_gateways.cli.demonstration.show import Passage, Show
from dragoman_gateways.cli.demonstration.stage import Stage
from dragoman_gateways.cli.demonstration.texts import example_text
from dragoman_gateways.cli.presenting import artifact_text, status_text
from dragoman_gateways.cli.words import duration, plural, short_instance

__all__ = [
    "classify",
    "count",
    "extract",
    "many_at_once",
    "outvote",
    "report",
    "survive",
    "translate",
]

LETTER, BREAD, COMET, MARKET = (
    "harbor-letter.txt",
    "slow-bread.txt",
    "comet-night.txt",
    "market-morning.txt",
)
TRUTHS = {LETTER: "trade", BREAD: "cooking", COMET: "science", MARKET: "trade"}
"""What the texts are about."""
LESSONS = 3
DEADLINE_SECONDS = 30.0
KILL_AFTER_LINES = 4
LINES_AFTERWARDS = 4
MODEL_DEADLINE_SECONDS = 60.0


async def count(bus: Bus, show: Show) -> None:
    """A short task: one request, one answer."""
    show.act("count", f"{LETTER} (no agent is named: whoever has the skill takes it)")
    result, seconds = await _ask(bus, "count", LETTER)
    _tell_counts(show, result.value)
    show.answered(result, seconds)


async def extract(bus: Bus, show: Show) -> None:
    """Structured output, checked against the skill's schema on both ends."""
    show.act("extract", f"{LETTER} (typed: input and output are checked against schemas)")
    result, seconds = await _ask(bus, "extract", LETTER)
    _tell_findings(show, result.value)
    show.answered(result, seconds)


async def classify(bus: Bus, show: Show) -> None:
    """What is a text about?"""
    show.act("classify", BREAD)
    result, seconds = await _ask(bus, "classify", BREAD)
    _tell_verdict(show, result.value)
    show.answered(result, seconds)


async def translate(bus: Bus, show: Show, *, agent: str | None = None) -> None:
    """A streamed answer, shown as its pieces arrive; from ``agent`` when one is named."""
    target = f"{agent}/translate" if agent else "translate"
    show.act(target, f"{MARKET} (streamed: each piece is shown as it arrives)")
    passage, first = Passage(show), None
    started = time.monotonic()
    task = await bus.submit(
        "translate", example_text(MARKET), agent=agent, deadline=MODEL_DEADLINE_SECONDS
    )
    async for update in task:
        if isinstance(update, TaskArtifactUpdateEvent):
            first = first or time.monotonic() - started
            passage.add(artifact_text(update))
    passage.end()
    result = await task.result()
    pieces = f"{plural(passage.pieces, 'piece')}, the first after {duration(first or 0.0)}"
    show.answered(result, time.monotonic() - started, pieces)


async def report(bus: Bus, show: Show) -> None:
    """An agent that has other agents do parts of its work."""
    show.act("report", f"{COMET} (the counter delegates to two other agents)")
    started = time.monotonic()
    task = await bus.submit("report", example_text(COMET), deadline=DEADLINE_SECONDS)
    async for update in task:
        if not isinstance(update, TaskArtifactUpdateEvent) and status_text(update):
            show.fact("status", f"{task.agent}: {status_text(update)}", style="italic")
    result = await task.result()
    _tell_counts(show, result.value["counts"])
    _tell_findings(show, result.value["findings"])
    _tell_verdict(show, result.value["verdict"])
    show.answered(result, time.monotonic() - started)


async def outvote(bus: Bus, show: Show) -> None:
    """One of three classifiers is wrong: it is outvoted, told, and loses its weight by labels."""
    show.act("panel/topic", f"{BREAD} (three classifiers, one was taught from wrong labels)")
    result, seconds = await _vote(bus, BREAD)
    account = account_of(result.receipt)
    if account is None:
        raise LocalError("the vote told nothing of its members", code="INTERNAL")
    show.fact("answer", str(result.value))
    for name, words in member_lines(account):
        show.fact("member", f"{name} {words}")
    show.fact("verdict", account.reason)
    show.answered(result, seconds)
    for name, truth in [*TRUTHS.items()] * LESSONS:
        voted, _ = await _vote(bus, name)
        taught = await bus.ask(
            "feedback", {"task_id": voted.task_id, "truth": truth}, agent="panel", deadline=30
        )
    told = ", ".join(f"{name} {weight:.1f}" for name, weight in taught.value["weights"].items())
    show.fact(
        "learned",
        f"after {taught.value['labels']} right answers, told by task id, votes weigh: {told}",
    )


async def _vote(bus: Bus, name: str) -> tuple[Result, float]:
    started = time.monotonic()
    result = await bus.ask("topic", example_text(name), agent="panel", deadline=DEADLINE_SECONDS)
    return result, time.monotonic() - started


async def survive(stage: Stage, show: Show) -> None:
    """A worker is killed in the middle of a durable task; another one goes on where it stopped."""
    text = example_text(LETTER)
    show.act("recite", f"{LETTER} (durable: it survives the death of its worker)")
    started = time.monotonic()
    task = await stage.bus.submit("recite", text, delivery="durable", deadline=DEADLINE_SECONDS)
    heard, killed = "", ""
    passage = Passage(show, KILL_AFTER_LINES)
    async for update in task:
        if not isinstance(update, TaskArtifactUpdateEvent) or update.last_chunk is True:
            continue
        heard += artifact_text(update)
        passage.add(artifact_text(update))
        if not killed and heard.count("\n") >= KILL_AFTER_LINES and task.instance:
            killed = task.instance
            os.kill(stage.pids[killed], signal.SIGKILL)
            show.fact("killed", f"kill -9 {stage.pids[killed]}: {short_instance(killed)} is dead")
            passage = Passage(show, LINES_AFTERWARDS)
    passage.end()
    result = await task.result()
    if heard != text or result.text != text:
        raise LocalError("the stream of the durable task is not the text", code="INTERNAL")
    other, lines = short_instance(task.instance or ""), text.count("\n")
    words = f"{other} went on where {short_instance(killed)} stopped"
    show.fact("stream", f"{words}: all {lines} lines came once, in order")
    attempts = plural(len(task.log.attempts), "attempt")
    show.answered(result, time.monotonic() - started, attempts)


async def many_at_once(bus: Bus, show: Show) -> None:
    """Tasks in flight together; the bus keeps them apart."""
    names = (LETTER, BREAD, COMET, MARKET)
    skills = ("count", "extract", "classify", "report")
    show.act("all", f"{len(names) * len(skills)} tasks at once: 4 skills on 4 texts")
    started = time.monotonic()
    answers = await asyncio.gather(*(_ask(bus, skill, name) for skill in skills for name in names))
    seconds = time.monotonic() - started
    slowest = max(taken for _, taken in answers)
    labels = [result.value["label"] for result, _ in answers[8:12]]
    about = ", ".join(
        f"{name.removesuffix('.txt')}: {label}" for name, label in zip(names, labels, strict=True)
    )
    show.fact("about", about)
    agents = {result.receipt.agent for result, _ in answers if result.receipt}
    show.fact(
        "together",
        f"{duration(seconds)} for {len(answers)} answers from {plural(len(agents), 'agent')}; "
        f"the slowest took {duration(slowest)}",
    )


async def _ask(bus: Bus, skill: str, name: str) -> tuple[Result, float]:
    started = time.monotonic()
    result = await bus.ask(skill, example_text(name), deadline=DEADLINE_SECONDS)
    return result, time.monotonic() - started


def _tell_counts(show: Show, counts: Any) -> None:
    frequent = ", ".join(f"{word} {number}" for word, number in counts["most_frequent"].items())
    show.fact(
        "counts",
        f"{counts['words']} words, {counts['sentences']} sentences; most frequent: {frequent}",
    )


def _tell_findings(show: Show, findings: Any) -> None:
    for kind in ("names", "dates", "numbers", "emails"):
        found = findings[kind]
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            show.fact(kind, f"{', '.join(found[:5])}{more}")


def _tell_verdict(show: Show, verdict: Any) -> None:
    show.fact("about", f"{verdict['label']}, because of: {', '.join(verdict['because_of'])}")
