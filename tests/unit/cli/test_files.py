"""Commands that need no bus: validate, schema, init, and up without a configuration."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from dragoman_agents.configuration import load_configuration
from dragoman_agents.models import PROVIDERS
from dragoman_bus.schema_files import schema_directory
from dragoman_gateways.cli.application import cli
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.running import find_agent
from dragoman_gateways.cli.settings import Settings

EXAMPLES = schema_directory() / "examples"
VALID = sorted(str(path) for path in (EXAMPLES / "valid").glob("*/*.json"))
INVALID = sorted(str(path) for path in (EXAMPLES / "invalid").glob("*/*.json"))


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    for name in ("NATS_URL", "DRAGOMAN_SERVER", "DRAGOMAN_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return CliRunner()


def judgements(stdout: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in stdout.splitlines()]


def test_validate_accepts_every_valid_example(runner: CliRunner) -> None:
    result = runner.invoke(cli, ["validate", "--json", *VALID])

    assert result.exit_code == ExitCode.OK
    assert len(judgements(result.stdout)) == len(VALID) > 0
    assert all(line["valid"] for line in judgements(result.stdout))


def test_validate_refuses_every_invalid_example_for_its_stated_reason(runner: CliRunner) -> None:
    result = runner.invoke(cli, ["validate", "--json", *INVALID])

    assert result.exit_code == ExitCode.INVALID
    for path, line in zip(INVALID, judgements(result.stdout), strict=True):
        stated = json.loads(Path(path).read_text())["violates"]
        document = line["document"]
        assert isinstance(document, dict)
        found = [{key: each[key] for key in stated} for each in document["violations"]]
        assert found == [stated], path


def test_validate_names_path_rule_and_section(runner: CliRunner) -> None:
    path = EXAMPLES / "invalid" / "task.final" / "error-without-side-effects.json"

    result = runner.invoke(cli, ["validate", str(path)])

    assert "/data/error  required: 'sideEffects' is a required property" in result.stdout
    assert "spec/operations.md" in result.stdout


@pytest.mark.parametrize("document", ["", "{", "[]", "null", '{"type": "x"}', "\udcff"])
def test_validate_refuses_what_is_no_message(runner: CliRunner, document: str) -> None:
    result = runner.invoke(cli, ["validate", "-"], input=document.encode(errors="surrogateescape"))

    assert result.exit_code == ExitCode.INVALID


def test_validate_judges_each_line_of_a_recording(runner: CliRunner, tmp_path: Path) -> None:
    good = json.dumps(json.loads(Path(VALID[0]).read_text()))
    (tmp_path / "recording.jsonl").write_text(f"{good}\n\n{{}}\n{good}\n")

    result = runner.invoke(cli, ["validate", "--json", "recording.jsonl"])

    assert [line["valid"] for line in judgements(result.stdout)] == [True, False, True]


@pytest.mark.parametrize(
    "arguments", [["validate"], ["validate", "absent.json"], ["validate", "-", "--count", "3"]]
)
def test_validate_without_anything_to_judge_is_a_usage_error(
    runner: CliRunner, arguments: list[str]
) -> None:
    assert runner.invoke(cli, arguments).exit_code == ExitCode.USAGE


def test_schema_ls_and_show_agree(runner: CliRunner) -> None:
    listed = json.loads(runner.invoke(cli, ["schema", "ls", "--json"]).stdout)["schemas"]

    names = [row["name"] for row in listed]
    assert "task.submit" in names
    for name in names:
        shown = runner.invoke(cli, ["schema", "show", name]).stdout
        assert json.loads(shown)["$id"].endswith(f"/{name}.json")


def test_an_unknown_schema_is_refused_with_the_names_there_are(runner: CliRunner) -> None:
    result = runner.invoke(cli, ["schema", "show", "task.fly"])

    assert result.exit_code == ExitCode.USAGE
    assert "task.submit" in result.stderr


def test_schema_diff_tells_a_narrowing_change(runner: CliRunner, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(schema_directory(), newer)
    schema = json.loads((newer / "task.cancel.json").read_text())
    schema["properties"]["data"]["properties"]["reason"]["maxLength"] = 10
    (newer / "task.cancel.json").write_text(json.dumps(schema))

    same = runner.invoke(cli, ["schema", "diff", "draft", "draft"])
    narrower = runner.invoke(cli, ["schema", "diff", "draft", "newer", "--json"])
    wider = runner.invoke(cli, ["schema", "diff", "newer", "draft", "--json"])

    assert same.exit_code == ExitCode.OK
    assert narrower.exit_code == ExitCode.INVALID
    assert json.loads(narrower.stdout)["verdict"] == "narrows"
    assert wider.exit_code == ExitCode.OK
    assert json.loads(wider.stdout)["verdict"] == "widens"


def test_init_writes_a_configuration_that_loads_and_an_agent_that_it_names(
    runner: CliRunner, tmp_path: Path
) -> None:
    result = runner.invoke(cli, ["init", "--json"])

    assert result.exit_code == ExitCode.OK
    assert json.loads(result.stdout) == {"written": ["dragoman.toml", "greeter.py"]}
    (agent,) = load_configuration(tmp_path / "dragoman.toml", environment={}).agents
    assert agent.module is not None
    assert list(find_agent(agent.module, Settings()).skills) == ["greet"]


def test_what_init_comments_out_is_valid_too(runner: CliRunner, tmp_path: Path) -> None:
    runner.invoke(cli, ["init"])
    file = tmp_path / "dragoman.toml"
    text = file.read_text()
    _, marker, declared = text.partition("# [[agents]]\n")
    file.write_text(
        "".join(line.removeprefix("# ") for line in f"{marker}{declared}".splitlines(True)).replace(
            "\n#\n", "\n\n"
        )
    )

    (agent,) = load_configuration(file, environment={}).agents

    assert agent.name == "summarizer"
    assert agent.model is not None
    named = re.search(r"provider = .*# or ([a-z, ]+):", text)
    assert named is not None
    providers = [agent.model.provider, *named[1].split(", ")]
    keys = [PROVIDERS[name].key_variable for name in providers]
    assert all(key in text for key in keys if key is not None)


def test_init_overwrites_only_by_force(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "dragoman.toml").write_text("# mine\n")

    refused = runner.invoke(cli, ["init"])
    kept = (tmp_path / "dragoman.toml").read_text()
    forced = runner.invoke(cli, ["init", "--force"])

    assert refused.exit_code == ExitCode.USAGE
    assert "--force" in refused.stderr
    assert kept == "# mine\n"
    assert forced.exit_code == ExitCode.OK


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "dragoman init"), ("", r"\[\[agents\]\]"), ("[bus]\nprot = 1\n", "port")],
)
def test_up_says_what_its_configuration_lacks(
    runner: CliRunner, tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "dragoman.toml").write_text(content)

    result = runner.invoke(cli, ["up"])

    assert result.exit_code == ExitCode.USAGE
    assert words.replace("\\", "") in result.stderr.replace("\n", " ")


@pytest.mark.parametrize("flags", [("--port", "0"), ("--data-directory", "data")])
def test_up_does_not_ignore_what_it_was_told_of_a_server_it_does_not_start(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, str]
) -> None:
    (tmp_path / "dragoman.toml").write_text('[[agents]]\nmodule = "x.py:agent"\n')
    monkeypatch.setenv("NATS_URL", "nats://me:secret@elsewhere:4222")

    result = runner.invoke(cli, ["up", *flags])

    assert result.exit_code == ExitCode.USAGE
    assert "nats://elsewhere:4222 runs elsewhere" in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    "target", ["absent.py:agent", "no.such.module:agent", "undeclared", "broken.py:agent"]
)
def test_run_says_why_an_agent_does_not_load(
    runner: CliRunner, tmp_path: Path, target: str
) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('halfway')\n")

    result = runner.invoke(cli, ["run", target])

    assert result.exit_code == ExitCode.USAGE
    assert "Traceback" not in result.stderr
    assert target.removesuffix(":agent") in result.stderr.replace("\n", "")
