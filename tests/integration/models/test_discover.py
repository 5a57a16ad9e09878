"""What discovery finds: a key, local servers, both, nothing; and what it says of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from dragoman_agents.models import open_adapter
from dragoman_agents.models.discover import LocalServer, discover_models
from tests.integration.models.test_openai_compatible import ask
from tests.support.anthropic_server import AnthropicServer
from tests.support.gemini_server import GeminiServer
from tests.support.model_server import ModelServer
from tests.support.openai_server import Failure, OpenAIServer

pytestmark = pytest.mark.anyio

KEY = "sk-test-9d8c7b6a5f4e"


@pytest.fixture
async def local() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer(
        models=({"id": "nomic-embed-text"}, {"id": "llama3.2:1b"}, {"id": "qwen3:4b"})
    ) as running:
        yield running


async def test_nothing_is_found_where_nothing_is(local: OpenAIServer) -> None:
    await local.__aexit__()
    nobody = [LocalServer("ollama", local.port)]
    assert await discover_models({}, local_servers=nobody) == []


async def test_a_local_server_is_found_with_the_first_model_that_can_chat(
    local: OpenAIServer,
) -> None:
    (found,) = await discover_models({}, local_servers=[LocalServer("ollama", local.port)])
    assert found.settings is not None
    assert (found.settings.model, found.settings.vendor) == ("llama3.2:1b", "ollama")
    assert found.settings.api_key_env is None
    assert "'llama3.2:1b'" in found.sentence
    assert "DRAGOMAN_MODEL" in found.sentence


async def test_dragoman_model_chooses(local: OpenAIServer) -> None:
    where = [LocalServer("ollama", local.port)]
    (found,) = await discover_models({"DRAGOMAN_MODEL": "qwen3:4b"}, local_servers=where)
    assert found.settings is not None
    assert found.settings.model == "qwen3:4b"
    (missing,) = await discover_models({"DRAGOMAN_MODEL": "gone"}, local_servers=where)
    assert not missing.usable
    assert "does not list the model 'gone'" in missing.sentence


async def test_a_key_is_tried_first_and_sent_only_to_its_own_address(local: OpenAIServer) -> None:
    async with OpenAIServer() as keyed:
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": keyed.base_url}
        first, second = await discover_models(
            environment, local_servers=[LocalServer("llama.cpp", local.port)]
        )
    assert first.settings is not None
    assert first.settings.api_key_env == "OPENAI_API_KEY"
    assert second.usable
    assert keyed.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(local.requests)
    assert KEY not in first.sentence + second.sentence + repr(first)


async def test_a_key_that_is_refused_is_told_and_not_used() -> None:
    async with OpenAIServer() as keyed:
        keyed.models = Failure(401, {"message": f"Incorrect key {KEY}", "code": "invalid_api_key"})
        environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": keyed.base_url}
        (found,) = await discover_models(environment, local_servers=[])
    assert not found.usable
    assert "cannot be used" in found.sentence
    assert KEY not in found.sentence


async def test_an_address_that_is_none_is_told() -> None:
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "not an address"}
    (found,) = await discover_models(environment, local_servers=[])
    assert found.sentence.startswith("OPENAI_BASE_URL cannot be used")


async def test_some_other_web_server_on_the_port_is_not_taken_for_a_model() -> None:
    async with OpenAIServer() as other:
        other.models = Failure(404, "<html>not here</html>")
        (found,) = await discover_models({}, local_servers=[LocalServer("llama.cpp", other.port)])
    assert not found.usable


async def test_a_server_without_models_says_so() -> None:
    async with OpenAIServer(models=()) as empty:
        (found,) = await discover_models({}, local_servers=[LocalServer("ollama", empty.port)])
    assert "has no model" in found.sentence


@pytest.mark.parametrize(
    ("kind", "provider", "variables"),
    [
        (AnthropicServer, "anthropic", ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")),
        (GeminiServer, "gemini", ("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL")),
    ],
)
async def test_keys_of_other_providers_are_found_and_each_stays_with_its_own(
    kind: Callable[[], ModelServer[Any]], provider: str, variables: tuple[str, str]
) -> None:
    key_variable, address_variable = variables
    async with kind() as server, OpenAIServer() as other:
        environment = {
            key_variable: KEY,
            address_variable: server.base_url,
            "OPENAI_API_KEY": "sk-other-1234",
            "OPENAI_BASE_URL": other.base_url,
        }
        first, second = await discover_models(environment, local_servers=[])
        assert second.settings is not None
        assert second.settings.provider == provider
        async with aclosing(open_adapter(second.settings, environment=environment)) as model:
            assert (await model.generate(ask(max_output_tokens=5))).text.startswith("You said")
    assert first.usable
    assert KEY not in str(other.requests)
    assert "sk-other-1234" not in str(server.requests)
