"""``dragoman learn`` asks the members and writes; an ensemble of a file does what was learned."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dragoman_agents.configuration import load_configuration
from dragoman_agents.declared import build_agent
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.port import Transport
from dragoman_gateways.cli.exit_codes import ExitCode
from tests.integration.cli.programs import run
from tests.support.ensemble_stage import Stage, account_of, outcomes_of, stage

pytestmark = pytest.mark.anyio

FILE = """
[[agents]]
name = "vote"
[agents.ensemble]
kind = "consensus"
skill = "guess"
members = ["wrong", "also-wrong", "right"]
learned = "vote.json"
choices = 4
explore = 0.0
[[agents]]
name = "careful"
[agents.ensemble]
kind = "cascade"
skill = "guess"
learned = "careful.json"
[[agents.ensemble.stages]]
members = ["wrong", "also-wrong"]
[[agents.ensemble.stages]]
members = ["right"]
[[agents]]
name = "way"
[agents.ensemble]
kind = "router"
skill = "guess"
members = ["wrong", "also-wrong", "right"]
learned = "way.json"
"""


@pytest.fixture
async def play(nats_server: NatsServer) -> AsyncIterator[Stage]:
    """Two members that say the same and are wrong, and one that is right."""

    transports: list[Transport] = []

    async def make() -> Transport:
        transports.append(await NatsTransport.connect(NatsOptions.from_url(nats_server.url)))
        return transports[-1]

    async with stage(make) as made:
        await made.member("wrong", "no", price=1.0)
        await made.member("also-wrong", "no", price=1.0)
        await made.member("right", lambda text: text, price=4.0)
        yield made
    for transport in transports:
        await transport.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dragoman.toml").write_text(FILE)
    lines = [
        json.dumps({"input": f"answer {number}", "truth": f"answer {number}"})
        for number in range(60)
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    return tmp_path


async def learn(server: NatsServer, folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    options = ("--config", str(folder / "dragoman.toml"), "--server", server.url, "--json")
    code, output, _ = await run("learn", *arguments, *options)
    return code, json.loads(output)


async def test_what_is_learned_is_written_and_used(
    play: Stage, nats_server: NatsServer, folder: Path
) -> None:
    questions, kept = str(folder / "questions.jsonl"), str(folder / "answers.jsonl")
    for name in ("vote", "careful", "way"):
        code, told = await learn(nats_server, folder, name, questions, "--answers", kept)
        assert code == ExitCode.OK
        assert told["file"] == str(folder / f"{name}.json")
        assert told["members"]["right"]["right"] == 60
        assert told["members"]["wrong"]["right"] == 0
    # Kept answers are not paid for again.
    assert len(play.calls) == 3 * 60

    for declaration in load_configuration(folder / "dragoman.toml", environment={}).agents:
        await play.serve(build_agent(declaration))
    vote = account_of(await play.ask("vote", "so"))
    assert vote.served_by == "right"
    assert vote.calibrated
    assert outcomes_of(vote)["wrong"] == "unasked"
    careful = account_of(await play.ask("careful", "so"))
    assert careful.served_by == "right"
    assert "better expected" in careful.reason
    assert account_of(await play.ask("way", "so")).served_by == "right"


async def test_what_labels_taught_is_written_too(
    play: Stage, nats_server: NatsServer, folder: Path
) -> None:
    plain = folder / "plain.toml"
    plain.write_text(FILE.replace('learned = "vote.json"', "stop_early = false"))
    (vote, *_) = load_configuration(plain, environment={}).agents
    await play.serve(build_agent(vote))
    for number in range(3):
        result = await play.ask("vote", f"answer {number}")
        label = {"task_id": result.task_id, "truth": f"answer {number}"}
        await play.bus.ask("feedback", label, agent="vote")

    code, told = await learn(nats_server, folder, "vote")

    assert code == ExitCode.OK
    assert told["knowledge"]["labels"] == 3
    assert told["members"]["right"] == {"right": 3, "seen": 3, "given": 3, "price": None}
    assert json.loads((folder / "vote.json").read_text())["kind"] == "consensus"


async def test_members_that_are_not_there_are_named(
    nats_server: NatsServer, play: Stage, folder: Path
) -> None:
    await play.kill("right")
    (folder / "dragoman.toml").write_text(FILE.replace('"right"', '"nobody"'))
    code, told = await learn(nats_server, folder, "vote", str(folder / "questions.jsonl"))
    assert code == ExitCode.NO_AGENT
    assert "nobody: not on the bus" in told["error"]["message"]
    assert play.calls == []


def test_an_ensemble_without_its_file_says_how_it_is_written(folder: Path) -> None:
    for declaration in load_configuration(folder / "dragoman.toml", environment={}).agents:
        with pytest.raises(NotConfigured, match=f"`dragoman learn {declaration.name} QUESTIONS`"):
            build_agent(declaration)


def test_what_was_learned_for_other_stages_is_refused(folder: Path) -> None:
    known = {"kind": "cascade", "skill": "guess", "labels": 9, "stages": [["x"], ["y"]]}
    (folder / "careful.json").write_text(json.dumps(known | {"escalations": []}))
    declarations = load_configuration(folder / "dragoman.toml", environment={}).agents
    with pytest.raises(NotConfigured, match="was learned for the stages"):
        build_agent(declarations[1])


async def test_a_truth_that_no_answer_can_equal_is_refused_before_anybody_is_asked(
    nats_server: NatsServer, play: Stage, folder: Path
) -> None:
    questions = folder / "wrong.jsonl"
    questions.write_text(json.dumps({"input": "x", "truth": {"label": "x"}}))
    code, told = await learn(nats_server, folder, "vote", str(questions))
    assert code == ExitCode.INVALID
    assert "cannot be compared with answers" in told["error"]["message"]

    questions.write_text('{"input": "x"}')
    code, told = await learn(nats_server, folder, "vote", str(questions))
    assert code == ExitCode.INVALID
    assert "wrong.jsonl, line 1" in told["error"]["message"]
    assert play.calls == []
