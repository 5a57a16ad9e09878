"""A scripted OpenAI-compatible server, and an adapter that talks to it through the real SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from dragoman_agents.models import ModelSettings, OpenAICompatible
from tests.support.openai_server import MODEL, OpenAIServer

KEY = "sk-test-4f9a8c7b6d5e4f3a2b1c"
KEY_VARIABLE = "TEST_MODEL_KEY"


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as running:
        yield running


@pytest.fixture
async def adapter(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenAICompatible]:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    settings = ModelSettings(
        base_url=server.base_url,
        model=MODEL,
        api_key_env=KEY_VARIABLE,
        structured_output=True,
    )
    async with aclosing(OpenAICompatible(settings)) as opened:
        yield opened
