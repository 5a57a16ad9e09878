"""The root command: help, versions, exit codes, completion, and quick starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dragoman_bus.protocol import errors
from dragoman_gateways.cli.application import COMMANDS, cli
from dragoman_gateways.cli.exit_codes import EXIT_CODE_HELP, ExitCode, exit_code_of

HEAVY = ("jsonschema", "nats", "rich", "openai", "dragoman_agents", "dragoman_bus.client")


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_help_names_every_command_and_every_exit_code(runner: CliRunner) -> None:
    text = runner.invoke(cli, ["--help"]).stdout

    for name in COMMANDS:
        assert re.search(rf"^  {name}\b", text, re.MULTILINE)
    for code in EXIT_CODE_HELP:
        assert re.search(rf"^  {int(code)}\b", text, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(runner: CliRunner, name: str) -> None:
    result = runner.invoke(cli, [name, "--help"])

    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 4


def test_every_kind_of_ending_is_explained() -> None:
    assert set(EXIT_CODE_HELP) == set(ExitCode)


def test_version_tells_release_and_protocol(runner: CliRunner) -> None:
    result = runner.invoke(cli, ["--version"])

    assert re.fullmatch(r"dragoman .+, protocol 1\.0\n", result.stdout)


def test_an_unknown_command_is_a_usage_error(runner: CliRunner) -> None:
    result = runner.invoke(cli, ["fly"])

    assert result.exit_code == ExitCode.USAGE
    assert "fly" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly", "--json"], "fly"),
        (["--sky", "ls", "--json"], "--sky"),
        (["ask", "--json"], "SKILL"),
        (["ask", "count", "--bogus", "--json"], "--bogus"),
        (["ask", "count", "--deadline", "soon", "--json"], "--deadline"),
        (["task", "get", "NO NAME", "--json"], "NO NAME"),
        (["task", "--json"], "--json"),
        (["dlq", "redrive", "a", "--agent", "b", "--model", "c", "--json"], "--model"),
        (["dlq", "redrive", "a", "--force", "--json"], "--agent"),
    ],
)
def test_wrong_usage_is_told_as_json_to_a_program(
    runner: CliRunner, arguments: list[str], words: str
) -> None:
    result = runner.invoke(cli, arguments)

    [line] = result.stdout.splitlines()
    document = json.loads(line)
    assert result.exit_code == document["exitCode"] == ExitCode.USAGE
    assert document["event"] == "error"
    assert document["error"]["code"] == "USAGE"
    assert words in document["error"]["message"]
    assert "--help" in document["error"]["action"]
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", [["ask", "count", "--bogus"], ["ls", "--", "a", "--json"]])
def test_wrong_usage_is_told_in_words_to_people(runner: CliRunner, arguments: list[str]) -> None:
    result = runner.invoke(cli, arguments)

    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: ")


def test_ctrl_c_before_a_command_begins_is_an_interruption(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(cli), "parse_args", interrupted)

    assert runner.invoke(cli, ["ls"]).exit_code == ExitCode.INTERRUPTED


def test_a_broken_configuration_is_told_as_json_to_a_program(
    runner: CliRunner, tmp_path: Path
) -> None:
    file = tmp_path / "dragoman.toml"
    file.write_text("[bus\nport = ")

    result = runner.invoke(cli, ["--config", str(file), "ls", "--json"])

    document = json.loads(result.stdout)
    assert result.exit_code == document["exitCode"] == ExitCode.USAGE
    assert document["error"]["code"] == "NOT_CONFIGURED"
    assert str(file) in document["error"]["message"]
    assert result.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_writes_a_script(runner: CliRunner, shell: str) -> None:
    result = runner.invoke(cli, ["completion", shell])

    assert result.exit_code == 0
    assert "_DRAGOMAN_COMPLETE" in result.stdout


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["ask", "--help"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom dragoman_gateways.cli.application import cli\n"
        f"try: cli({arguments!r})\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )

    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert run.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TaskFailed("it broke"), ExitCode.TASK_FAILED),
        (errors.TaskCanceled("stopped"), ExitCode.TASK_FAILED),
        (errors.TaskFailed("late", code="DEADLINE_EXCEEDED"), ExitCode.DEADLINE),
        (errors.TaskRejected("bad", code="INVALID_INPUT"), ExitCode.INVALID),
        (errors.TaskRejected("what", code="UNKNOWN_SKILL"), ExitCode.NO_AGENT),
        (errors.NotConfigured("no file"), ExitCode.USAGE),
        (errors.BusUnavailable("nobody"), ExitCode.BUS_UNAVAILABLE),
        (errors.NoResponders("nobody"), ExitCode.NO_AGENT),
        (errors.AgentUnavailable("nobody"), ExitCode.NO_AGENT),
        (errors.AgentLost("gone"), ExitCode.NO_AGENT),
        (errors.Overloaded("busy"), ExitCode.NO_AGENT),
        (errors.DeadlineExceeded("late"), ExitCode.DEADLINE),
        (errors.ProtocolError("odd"), ExitCode.INVALID),
        (errors.InvalidInput("odd"), ExitCode.INVALID),
        (ValueError("a defect"), ExitCode.INTERNAL),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_an_error_has_the_exit_code_of_its_kind(error: BaseException, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_a_failure_is_one_line_in_a_pipe_and_gives_no_empty_advice(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "the file " + "long/" * 60 + "agent.toml is not there; write it"

    @click.command()
    def failing() -> None:
        raise errors.NotConfigured(message)

    monkeypatch.setattr(type(cli), "get_command", lambda *_: failing)
    result = runner.invoke(cli, ["ls"])

    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.splitlines() == [f"dragoman: {message}.", "  (NOT_CONFIGURED)"]


def test_a_defect_shows_a_sentence_and_a_traceback_only_with_debug(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def broken() -> None:
        raise RuntimeError("the wheel came off")

    monkeypatch.setattr(type(cli), "get_command", lambda *_: broken)

    plain = runner.invoke(cli, ["ls"])
    debugged = runner.invoke(cli, ["--debug", "ls"])

    assert plain.exit_code == debugged.exit_code == ExitCode.INTERNAL
    assert "the wheel came off" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debugged.stderr
