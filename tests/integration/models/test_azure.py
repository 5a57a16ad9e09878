"""Models on Azure through the real SDK: both forms of address, keys and tokens, nothing ambient."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from dragoman_agents.models import ModelSettings, open_adapter
from dragoman_agents.models.azure import AzureOpenAI
from dragoman_bus.protocol.errors import NotConfigured
from tests.integration.models.conftest import KEY
from tests.integration.models.test_openai_compatible import ask
from tests.support.openai_server import OpenAIServer

pytestmark = pytest.mark.anyio

CLASSIC = {"api_version": "2024-10-21"}
TOKENS = iter(())


async def azure_token() -> str:
    return next(TOKENS)


def settings(server: OpenAIServer, options: dict[str, Any], **members: Any) -> ModelSettings:
    address = server.base_url.removesuffix("/v1")
    members = {"api_key_env": "KEY", "base_url": address, "provider": "azure-openai"} | members
    return ModelSettings(model="our-gpt", options=options, **members)


@pytest.fixture(autouse=True)
def ambient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-ambient")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_VERSION", "1999-01-01")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-ambient")


async def test_the_classic_form_names_deployment_and_version_in_the_address(
    server: OpenAIServer,
) -> None:
    async with aclosing(open_adapter(settings(server, CLASSIC), environment={"KEY": KEY})) as model:
        await model.generate(ask())
        await model.health()
    chat, listing = server.requests
    assert chat.path == "/openai/deployments/our-gpt/chat/completions?api-version=2024-10-21"
    assert listing.path == "/openai/models?api-version=2024-10-21"
    for request in server.requests:
        assert request.headers["api-key"] == KEY
        assert "authorization" not in request.headers
        assert "ambient" not in str(request)


@pytest.mark.parametrize("ending", ["", "/", "/openai/v1", "/openai/v1/"])
@pytest.mark.parametrize("provider", ["azure-openai", "azure-foundry"])
async def test_the_v1_form_names_the_deployment_as_model_however_the_address_ends(
    server: OpenAIServer, provider: str, ending: str
) -> None:
    address = server.base_url.removesuffix("/v1") + ending
    chosen = settings(server, {}, base_url=address, provider=provider)
    async with aclosing(open_adapter(chosen, environment={"KEY": KEY})) as model:
        await model.generate(ask())
    (chat,) = server.requests
    assert chat.path == "/openai/v1/chat/completions"
    assert chat.body["model"] == "our-gpt"
    assert chat.headers["authorization"] == f"Bearer {KEY}"
    assert "ambient" not in str(chat)


@pytest.mark.parametrize("options", [{}, CLASSIC], ids=["v1", "classic"])
async def test_a_token_is_asked_for_before_each_call(
    server: OpenAIServer, options: dict[str, Any]
) -> None:
    given = iter(("token-1", "token-2", "token-3"))

    async def token() -> str:
        return next(given)

    chosen = settings(server, options, api_key_env=None)
    async with aclosing(AzureOpenAI(chosen, token=token)) as model:
        await model.generate(ask())
        await model.health()
        await model.generate(ask())
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer token-1",
        "Bearer token-2",
        "Bearer token-3",
    ]
    assert all("api-key" not in request.headers for request in server.requests)


async def test_configuration_names_the_function_that_gives_tokens(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.TOKENS", iter(("token-1",)))
    chosen = settings(server, {"token": f"{__name__}:azure_token"}, api_key_env=None)
    async with aclosing(open_adapter(chosen, environment={})) as model:
        await model.generate(ask())
    assert server.chats[0].headers["authorization"] == "Bearer token-1"


@pytest.mark.parametrize("token", ["no_such_module:give", "os:no_such_function", "os.path:join"])
async def test_a_function_that_gives_no_token_is_told_at_once(
    server: OpenAIServer, token: str
) -> None:
    with pytest.raises(NotConfigured, match="options.token"):
        open_adapter(settings(server, {"token": token}, api_key_env=None), environment={})


async def test_an_unknown_option_is_refused_with_the_known_ones(server: OpenAIServer) -> None:
    with pytest.raises(ValueError, match=r"`version`; known are: api, .*api_version"):
        settings(server, {"version": "2024-10-21"})
