"""CrewAI and AutoGen, each installed and served in an environment that holds nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from dragoman_bus import connect
from dragoman_bus.server import NatsServer
from tests.integration.cli.programs import EXAMPLES, ROOT, environment
from tests.integration.frameworks.makers import KEY
from tests.support.openai_server import MODEL, OpenAIServer
from tests.support.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.separate]

OTHERS = EXAMPLES / "frameworks" / "others"
QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
}
INSTALL_SECONDS = 900


async def install(folder: Path, *packages: str) -> Path:
    """The Python of a new environment with the project and these packages."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", str(ROOT), *packages],
    ):
        process = await asyncio.create_subprocess_exec(*command)
        async with asyncio.timeout(INSTALL_SECONDS):
            assert await process.wait() == 0, command
    return python


@pytest.mark.parametrize(
    ("file", "packages"),
    [
        ("autogen_agent.py", ["autogen-agentchat", "autogen-ext[openai]"]),
        ("crewai_crew.py", ["crewai"]),
    ],
)
async def test_it_answers_on_the_bus_and_tells_what_it_used(
    file: str, packages: list[str], nats_server: NatsServer, tmp_path: Path
) -> None:
    python = await install(tmp_path / "environment", *packages)
    async with OpenAIServer() as server, connect(nats_server.url) as bus:
        variables = environment(
            MODEL=MODEL,
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=server.base_url,
            NATS_URL=nats_server.url,
            HOME=str(tmp_path),
            **QUIET,
        )
        command = [python, "-m", "dragoman_gateways.cli", "run", f"{OTHERS / file}:agent"]
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=variables)
        try:
            directory = await bus.directory()
            await eventually(directory.agents, timeout=120)
            (agent,) = directory.agents()
            result = await bus.ask(agent.skills[0], "Why do cats purr?", deadline=60)
            assert "Why do cats purr?" in str(result.text)
            assert result.usage is not None
            assert (result.usage.input_tokens, result.usage.output_tokens) == (7, 2)
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
        await eventually(lambda: not directory.agents())
