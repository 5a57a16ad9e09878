"""The demo from beginning to end, and its exit code."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from dragoman_agents.models.settings import ModelSettings
from dragoman_bus.protocol.errors import DeadlineExceeded, DragomanError
from dragoman_gateways.cli.demonstration import acts, cast
from dragoman_gateways.cli.demonstration.show import Show
from dragoman_gateways.cli.demonstration.stage import Stage, open_stage
from dragoman_gateways.cli.demonstration.texts import examples_directory, shortest_path
from dragoman_gateways.cli.event_loop import first_of, run, stop_on_signals
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.validating import Tally, judge, tally_table
from dragoman_gateways.cli.words import duration

__all__ = ["demonstrate"]

LIMIT_SECONDS = 100.0
SHOWN_VIOLATIONS = 10

NEXT = (
    ("--config {examples}/dragoman.toml up", "a bus and these agents, until Ctrl-C"),
    ("--config {examples}/ensemble.toml up", "three classifiers and their vote"),
    ("run {examples}/echo.py:agent", "another agent, in another terminal"),
    ("ls", "who is there"),
    ('ask echo "Is anybody here?"', "ask a skill, whoever has it"),
    ("watch", "tasks as they happen"),
    ("init", "a configuration of your own"),
)


def demonstrate() -> ExitCode:
    """Play the demo; ``OK`` when every task succeeded and every message was valid.

    Raises:
        DragomanError: the server or an agent did not start, or a task failed.
    """
    return run(_until_signal())


async def _until_signal() -> ExitCode:
    with stop_on_signals() as stop:
        code = await first_of(stop, _play())
    return ExitCode.INTERRUPTED if code is None else code


async def _play() -> ExitCode:
    pids: dict[str, int] = {}
    show = Show(pids)
    show.title()
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            async with open_stage() as stage:
                stage.pids = pids
                closing = await _perform(stage, show)
                show.heading("The agents leave: SIGTERM, drain, goodbye")
                started = time.monotonic()
                await stage.end_agents()
                show.fact("ended", f"all processes, in {duration(time.monotonic() - started)}")
            return _check(stage, show, closing)
    except TimeoutError:
        raise DeadlineExceeded(f"the demo did not end within {LIMIT_SECONDS:g} s") from None


async def _perform(stage: Stage, show: Show) -> str:
    """Start the agents and give them their tasks; says what a language model had to do with it."""
    show.heading("The bus")
    server = stage.server
    show.fact("bus", f"a real nats-server at {server.url}, pid {server.process_id}")
    model, findings = await cast.find_model()
    for finding in findings:
        show.fact("model", finding.sentence)
    if model is None:
        show.fact(
            "model",
            "no usable language model here (looked for OPENAI_API_KEY, Ollama and llama.cpp): the "
            "agents work by rules, counts and a glossary",
        )
    with tempfile.TemporaryDirectory(prefix="dragoman-demo-") as directory:
        started = time.monotonic()
        stage.start(cast.programs(server.url, model, Path(directory)))
        views = await stage.wait_for(set(cast.SKILLS))
        show.heading(
            f"The agents, found in the registry after {duration(time.monotonic() - started)}"
        )
        show.agents(views)
        show.heading("The tasks")
        bus = stage.bus
        for act in (acts.count, acts.extract, acts.classify):
            await act(bus, show)
        closing = await _translate(stage, show, model)
        await acts.report(bus, show)
        await acts.many_at_once(bus, show)
        show.heading("A wrong member is outvoted")
        stage.start(cast.panel(server.url))
        await stage.wait_for_agents(cast.PANEL)
        await acts.outvote(bus, show)
        show.heading("A worker dies, and its task does not")
        stage.start(cast.readers(server.url))
        await stage.wait_for_replicas("reader", 2)
        await acts.survive(stage, show)
    return closing


async def _translate(stage: Stage, show: Show, model: ModelSettings | None) -> str:
    """Translate with the model when there is one; without it, or when it fails, by glossary."""
    try:
        await acts.translate(stage.bus, show)
    except DragomanError as error:
        if model is None:
            raise
        show.failed(f"the model did not translate: {error.message}")
        show.line("   The translator that works by glossary takes over.", style="dim")
        stage.start([cast.glossary_translator(stage.server.url)])
        await stage.wait_for_agents({"translator"})
        await acts.translate(stage.bus, show, agent="translator")
        return "A language model was asked and did not answer; no answer above comes from one."
    if model is None:
        return "No language model was used."
    return "A language model translated; all other agents worked without one."


def _check(stage: Stage, show: Show, closing: str) -> ExitCode:
    """Judge every recorded message; the demo's verdict."""
    tally, invalid = Tally(), []
    for delivery in stage.recorded:
        judgement = judge(delivery.subject, delivery.data)
        tally.add(judgement)
        if not judgement.valid:
            invalid.append(judgement)
    show.heading("Every message on the bus, judged by the reference validator")
    show.table(tally_table(tally))
    for judgement in invalid[:SHOWN_VIOLATIONS]:
        for violation in judgement.violations[:3]:
            show.failed(
                f"{judgement.type} on {judgement.where}: {violation.path or '(the document)'} "
                f"{violation.rule}: {violation.message} [{violation.section}]"
            )
    show.line(f"   {tally.verdict()}", style="bold red" if tally.invalid else "bold green")
    show.line()
    show.line(closing, style="bold")
    show.heading("Try next")
    program, examples = _program(), shortest_path(examples_directory())
    commands = [(f"{program} {words.format(examples=examples)}", why) for words, why in NEXT]
    width = max(len(command) for command, _ in commands)
    for command, why in commands:
        show.line(f"   {command:<{width}}   {why}")
    show.line()
    return tally.exit_code


def _program() -> str:
    """How to call this program again: its name if the shell finds it, else where it is."""
    return "dragoman" if shutil.which("dragoman") else str(shortest_path(Path(sys.argv[0])))
