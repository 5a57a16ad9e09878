"""Gemini on Vertex AI: where it is, whose credentials it uses, and what fails without them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from dragoman_agents.models import ModelError, ModelSettings, open_adapter
from dragoman_agents.models.providers import address_of
from dragoman_bus.protocol.errors import NotConfigured
from tests.integration.models.conftest import KEY
from tests.integration.models.test_openai_compatible import ask
from tests.support.gemini_server import MODEL, GeminiServer, VertexServer, write_service_account

pytestmark = pytest.mark.anyio

PLACE = {"project": "our-project", "location": "europe-west4"}


@pytest.fixture
async def vertex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VertexServer]:
    async with VertexServer() as running:
        write_service_account(tmp_path / "account.json", running.address)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        yield running


def settings(**members: Any) -> ModelSettings:
    members = {"options": PLACE, "model": MODEL} | members
    return ModelSettings(provider="gemini-vertex", **members)


def opened(server: GeminiServer, **members: Any) -> Any:
    chosen = settings(base_url=server.base_url, **members)
    return aclosing(open_adapter(chosen, environment={"KEY": KEY}))


async def test_the_address_names_project_place_and_model_and_the_token_is_asked_for_once(
    vertex: VertexServer,
) -> None:
    async with opened(vertex) as model:
        assert (await model.generate(ask())).text == "You said: Say hello"
        await model.generate(ask())
        assert await model.list_models() == (MODEL,)
    paths = [request.path.partition("?")[0] for request in vertex.requests]
    call = f"/v1/projects/our-project/locations/europe-west4/publishers/google/models/{MODEL}"
    assert paths == [
        "/token",
        f"{call}:generateContent",
        f"{call}:generateContent",
        "/v1/publishers/google/models",
    ]
    assert {request.headers.get("authorization") for request in vertex.requests[1:]} == {
        "Bearer token-1"
    }


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ({"project": "p"}, "https://aiplatform.googleapis.com/v1beta1"),
        (PLACE, "https://europe-west4-aiplatform.googleapis.com/v1beta1"),
        ({"project": "p", "location": "eu"}, "https://aiplatform.eu.rep.googleapis.com/v1beta1"),
    ],
)
async def test_without_an_address_the_place_decides(options: dict[str, str], address: str) -> None:
    async with aclosing(open_adapter(settings(options=options), environment={})) as model:
        assert address_of(model.settings) == address  # type: ignore[attr-defined]
        sdk_options = model._client._api_client._http_options  # type: ignore[attr-defined]
        assert sdk_options.base_url == address


async def test_express_mode_takes_a_key_and_nothing_ambient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GOOGLE_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"):
        monkeypatch.setenv(name, "ambient")
    async with (
        GeminiServer(key=KEY) as server,
        opened(server, api_key_env="KEY", options={}) as model,
    ):
        await model.generate(ask())
    (call,) = server.requests
    assert call.path == f"/v1/publishers/google/models/{MODEL}:generateContent"
    assert "ambient" not in str(call)


async def test_an_ambient_key_is_not_used_beside_a_project(
    vertex: VertexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "sk-ambient-1234")
    async with opened(vertex) as model:
        await model.generate(ask())
    assert "ambient" not in str(vertex.requests)


async def test_neither_project_nor_key_is_told_before_any_call() -> None:
    with pytest.raises(NotConfigured, match="project that is billed"):
        open_adapter(settings(options={}), environment={})


async def test_credentials_that_are_nowhere_or_refused_are_told(
    vertex: VertexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    async with opened(vertex) as model:
        with pytest.raises(ModelError, match="nowhere.json") as missing:
            await model.generate(ask())
    assert missing.value.kind == "auth"
    write_service_account(tmp_path / "other.json", vertex.address)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "other.json"))
    vertex.token = None
    async with opened(vertex) as model:
        with pytest.raises(ModelError, match="give no token.*revoked") as refused:
            await model.generate(ask())
    assert refused.value.kind == "auth"
    assert vertex.chats == []
