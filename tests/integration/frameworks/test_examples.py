"""The examples of frameworks, served by ``dragoman run`` as a reader would."""

from __future__ import annotations

import ast
import signal
from pathlib import Path

import pytest

from dragoman_bus import connect
from dragoman_bus.server import NatsServer
from tests.integration.cli.programs import EXAMPLES, start
from tests.integration.frameworks.makers import KEY
from tests.support.openai_server import MODEL, OpenAIServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

FILES = sorted((EXAMPLES / "frameworks").glob("*.py"))


def test_there_is_an_example_of_each() -> None:
    assert len(FILES) == 5


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_has_less_than_ten_lines(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    first = tree.body[0]
    assert isinstance(first, ast.Expr), "it says what it is"
    words = range(first.lineno, (first.end_lineno or 0) + 1)
    lines = [
        line
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip() and number not in words
    ]

    assert len(lines) < 10


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_an_example_answers_on_the_bus(
    file: Path, server: OpenAIServer, nats_server: NatsServer
) -> None:
    variables = {
        "MODEL": MODEL,
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": server.base_url,
        "NATS_URL": nats_server.url,
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    async with (
        start("run", f"{file}:agent", **variables) as program,
        connect(nats_server.url) as bus,
    ):
        directory = await bus.directory()
        await eventually(directory.agents, timeout=60)
        (agent,) = directory.agents()
        result = await bus.ask(agent.skills[0], "abc", deadline=30)
        assert await program.end(signal.SIGTERM) == 0
        await eventually(lambda: not directory.agents())

    expected = "cba" if file.stem == "plain_function" else "abc"
    assert expected in str(result.text)
