"""``examples/providers.toml`` works with nothing but keys set, on every provider that it names."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from dragoman_agents import serving
from dragoman_agents.configuration import AgentDeclaration, load_configuration
from dragoman_agents.declared import declared_agent
from dragoman_agents.models import PROVIDERS, ModelSettings, open_adapter
from dragoman_bus import Bus
from dragoman_bus.protocol.receipts import EnsembleReceipt
from dragoman_bus.transports.memory import MemoryBroker
from dragoman_gateways.cli.processes import ProcessEvent
from dragoman_gateways.cli.starting import programs_for
from dragoman_gateways.cli.supervising import Program, Supervisor
from examples.local_models.tiny_llama import write_tiny_llama
from tests.support.anthropic_server import AnthropicServer
from tests.support.gemini_server import GeminiServer
from tests.support.model_server import Failure, ModelServer
from tests.support.openai_server import OpenAIServer

pytestmark = pytest.mark.anyio

FILE = Path(__file__).parents[3] / "examples" / "providers.toml"
CONFIGURATION = load_configuration(FILE, environment={})
AGENTS = [agent for agent in CONFIGURATION.agents if agent.model is not None]
(ANYONE,) = [agent for agent in CONFIGURATION.agents if agent.ensemble is not None]
KEY = "sk-example-1a2b3c4d5e6f"


def model_of(agent: AgentDeclaration) -> ModelSettings:
    assert agent.model is not None
    return agent.model


def variables(settings: ModelSettings) -> dict[str, str]:
    """The environment in which nothing but the model's usual key is set."""
    variable = PROVIDERS[settings.provider].key_variable
    return {} if variable is None else {variable: KEY}


def server_for(settings: ModelSettings) -> ModelServer[Any]:
    kinds: dict[str, Callable[[], ModelServer[Any]]] = {
        "anthropic": AnthropicServer,
        "gemini": GeminiServer,
    }
    return kinds.get(settings.provider, OpenAIServer)()


def test_the_makers_of_the_mission_are_all_there() -> None:
    named = {model_of(agent).provider for agent in AGENTS}
    assert named == {
        "anthropic",
        "azure-foundry",
        "azure-openai",
        "gemini",
        "llama",
        "ollama",
        "openai",
        "openrouter",
    }
    assert {skill.id for agent in AGENTS for skill in agent.skills} == {"answer"}
    assert ANYONE.ensemble is not None
    assert list(ANYONE.ensemble.members) == [agent.name for agent in AGENTS]


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
async def test_an_agent_opens_with_nothing_but_its_key_set(
    agent: AgentDeclaration, tmp_path: Path
) -> None:
    settings = model_of(agent)
    if settings.provider == "llama":
        settings = with_a_file(settings, tmp_path)
    async with aclosing(open_adapter(settings, environment=variables(settings))) as adapter:
        assert {"text", "stream"} <= adapter.capabilities


async def test_all_answer_the_same_question_on_one_bus(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        broker = MemoryBroker()
        servers = {}
        for agent in AGENTS:
            settings = model_of(agent)
            if settings.provider == "llama":
                settings = with_a_file(settings, tmp_path)
            else:
                server = await stack.enter_async_context(server_for(settings))
                servers[agent.name] = server
                key = PROVIDERS[settings.provider].key_variable
                settings = structs.replace(
                    settings, base_url=server.base_url, api_key_env=key, max_output_tokens=16
                )
            adapter = open_adapter(settings, environment=variables(settings))
            await stack.enter_async_context(aclosing(adapter))
            served = declared_agent(structs.replace(agent, model=settings), adapter=adapter)
            await stack.enter_async_context(serving(served, broker.connect(), grace_seconds=1.0))
        bus = await stack.enter_async_context(Bus(broker.connect()))
        names = [str(agent.name) for agent in AGENTS]
        results = await asyncio.gather(
            *(bus.ask("answer", "Why is the sky blue?", agent=name) for name in names)
        )
        await stack.enter_async_context(serving(declared_agent(ANYONE), broker.connect()))
        servers["gpt"].answer_with(Failure(503, {"message": "down", "type": "server_error"}))
        stood_in = await bus.ask("answer", "And red?", agent="anyone")
    assert stood_in.receipt is not None
    account = stood_in.receipt.ensemble
    assert isinstance(account, EnsembleReceipt)
    assert (account.served_by, account.reason) == ("claude", "claude: gpt failed: MODEL_OVERLOADED")
    for name, result in zip(names, results, strict=True):
        assert result.receipt is not None
        assert result.receipt.agent == name
        if name in servers:
            assert result.text == "You said: Why is the sky blue?"
            assert "Answer in one sentence." in json.dumps(servers[name].chats[0].body)


def with_a_file(settings: ModelSettings, folder: Path) -> ModelSettings:
    path = write_tiny_llama(folder / "tiny.gguf")
    options = {"path": str(path), "threads": 1, "trial": False}
    return structs.replace(settings, options=options, max_output_tokens=8)


async def test_each_process_sees_the_key_of_its_own_model_and_no_other() -> None:
    keys = {key for agent in AGENTS for key in variables(model_of(agent))}
    assert len(keys) == 6
    for agent, program in zip(CONFIGURATION.agents, programs_for(CONFIGURATION, FILE), strict=True):
        own = set() if agent.model is None else set(variables(agent.model))
        seen = await variables_seen(program, dict.fromkeys(keys, KEY) | {"KEPT": "yes"})
        assert seen & keys == own
        assert "KEPT" in seen


async def variables_seen(program: Program, environment: dict[str, str]) -> set[str]:
    """What a process in the program's place finds in its environment."""
    source = "import os; print(' '.join(os.environ), flush=True); raise SystemExit(2)"
    asked = Program(label="asked", command=[sys.executable, "-c", source], hidden=program.hidden)
    said: list[str] = []

    def listen(event: ProcessEvent) -> None:
        said.extend(event.text.split())

    await Supervisor([asked], environment, listen).run(asyncio.Event())
    return set(said)
