"""A key goes to its own server and to no other, whatever that server answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from dragoman_agents.models import ModelError, ModelSettings, open_adapter
from tests.integration.models.conftest import KEY
from tests.integration.models.test_openai_compatible import ask
from tests.support.anthropic_server import AnthropicServer
from tests.support.gemini_server import GeminiServer
from tests.support.model_server import Failure, ModelServer
from tests.support.openai_server import OpenAIServer

pytestmark = pytest.mark.anyio

CASES: list[tuple[str, Callable[[], ModelServer[Any]], dict[str, Any]]] = [
    ("openai", OpenAIServer, {}),
    ("openai", OpenAIServer, {"options": {"api": "responses"}}),
    ("azure-openai", OpenAIServer, {"options": {"api_version": "2024-10-21"}}),
    ("azure-foundry", OpenAIServer, {"structured_output": True}),
    ("anthropic", AnthropicServer, {}),
    ("gemini", GeminiServer, {}),
]


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize(("provider", "kind", "members"), CASES)
async def test_a_redirect_is_an_error_and_not_followed(
    provider: str,
    kind: Callable[[], ModelServer[Any]],
    members: dict[str, Any],
    status: int,
) -> None:
    async with kind() as server, kind() as stranger:
        settings = ModelSettings(
            provider=provider, base_url=server.base_url, model="m", api_key_env="KEY", **members
        )
        moved = Failure(status, "moved", {"Location": f"{stranger.base_url}/elsewhere"})
        server.answer_with(moved)
        async with aclosing(open_adapter(settings, environment={"KEY": KEY})) as adapter:
            with pytest.raises(ModelError) as raised:
                await adapter.generate(ask(max_output_tokens=5))
        assert (raised.value.kind, raised.value.status) == ("invalid", status)
        assert len(server.chats) == 1
        assert stranger.requests == []
