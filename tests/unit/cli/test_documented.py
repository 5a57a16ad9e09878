"""docs/cli.md tells every command, every option and every exit code, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from dragoman_gateways.cli.application import COMMANDS, cli
from dragoman_gateways.cli.exit_codes import EXIT_CODE_HELP

TEXT = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = {
    section.partition("\n")[0]: section for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)
}


def options_of(command: click.Command) -> set[str]:
    found = {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
        if name.startswith("--")
    }
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            found |= options_of(inner)
    return found


def test_the_exit_codes_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", SECTIONS["Exit codes"], re.MULTILINE)

    assert rows == [(str(int(code)), text) for code, text in EXIT_CODE_HELP.items()]


def test_there_is_a_section_for_each_command_and_no_other() -> None:
    named = {title.split()[1] for title in SECTIONS if title.startswith("dragoman ")}

    assert named == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_documented(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None

    documented = set(re.findall(r"--[a-z][a-z-]*", SECTIONS[f"dragoman {name}"]))

    assert options_of(command) <= documented


def test_every_global_option_is_documented() -> None:
    documented = set(re.findall(r"`(--[a-z-]+)", TEXT.partition("## ")[0]))

    assert options_of(cli) <= documented
