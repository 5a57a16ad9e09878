"""Asking: targets, inputs, and what a program reads when nobody is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import UNSET

from dragoman_bus.protocol.a2a import Message
from dragoman_bus.protocol.errors import InvalidInput, ProtocolError
from dragoman_gateways.cli.application import cli
from dragoman_gateways.cli.asking import build_input, parse_target
from dragoman_gateways.cli.exit_codes import ExitCode

NOWHERE = "nats://127.0.0.1:1"


def test_a_target_is_a_skill_or_an_agents_skill() -> None:
    assert parse_target("count", None) == ("count", None)
    assert parse_target("counter/count", None) == ("count", "counter")
    assert parse_target("count", "counter") == ("count", "counter")
    assert parse_target("counter/count", "counter") == ("count", "counter")


@pytest.mark.parametrize("target", ["Count", "a/b/c", "", "count ", "/count", "a.>", "a/*"])
def test_a_target_that_is_no_name_is_refused(target: str) -> None:
    with pytest.raises(ProtocolError):
        parse_target(target, None)


def test_two_different_agents_are_refused() -> None:
    with pytest.raises(InvalidInput, match="parrot"):
        parse_target("counter/count", "parrot")


def test_text_alone_is_the_input_and_a_document_alone_too() -> None:
    assert build_input("hello", None) == "hello"
    assert build_input(None, '{"text": "hello"}') == {"text": "hello"}
    assert build_input(None, None) == {}


def test_text_and_document_travel_as_two_parts() -> None:
    message = build_input("hello", '{"most": 3}')

    assert isinstance(message, Message)
    assert [part.text for part in message.parts] == [UNSET, "hello"]
    assert bytes(message.parts[0].data) == b'{"most": 3}'
    assert message.parts[1].data is UNSET


@pytest.mark.parametrize("document", ["{", "[1]", "nonsense"])
def test_a_document_that_cannot_be_joined_with_text_is_refused(document: str) -> None:
    with pytest.raises(InvalidInput, match="--input"):
        build_input("hello", document)


def test_text_and_file_together_are_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("hello")

    result = CliRunner().invoke(cli, ["ask", "count", "hello", "--file", str(file)])

    assert result.exit_code == ExitCode.USAGE


def test_a_file_that_is_not_text_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "picture"
    file.write_bytes(b"\xff\xfe\x00")

    result = CliRunner().invoke(cli, ["ask", "count", "--file", str(file)])

    assert result.exit_code == ExitCode.USAGE
    assert "UTF-8" in result.stderr


def test_a_bad_name_is_told_as_json_with_nothing_else_on_standard_output() -> None:
    result = CliRunner().invoke(cli, ["ask", "Not A Skill", "hi", "--json", "--server", NOWHERE])

    document = json.loads(result.stdout)
    assert result.exit_code == document["exitCode"] == ExitCode.INVALID
    assert document["event"] == "error"
    assert document["error"]["code"] == "INVALID_MESSAGE"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ordered", "--context", "case-7"], "--ordered need --durable"),
        (["--ordered", "--durable"], "--ordered needs --context"),
    ],
)
def test_an_order_is_one_of_durable_tasks_in_a_context(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(cli, ["ask", "count", "hello", *arguments, "--json"])

    assert result.exit_code == ExitCode.USAGE
    assert words in result.stdout


@pytest.mark.parametrize("money", ["0.02", "USD", "-1USD", "1e3USD", "1 usd", "nanUSD", "1USDT"])
def test_what_is_no_amount_of_money_is_a_usage_error(money: str) -> None:
    result = CliRunner().invoke(cli, ["ask", "count", "hello", "--max-cost", money])

    assert result.exit_code == ExitCode.USAGE
    assert "0.02USD" in result.stderr
