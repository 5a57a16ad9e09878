"""Claude's wire against a server that others wrote: llama.cpp's own Messages endpoint, for real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import xllamacpp

from dragoman_agents.models import Done, ModelError, ModelSettings, TextDelta, open_adapter
from examples.local_models.tiny_llama import write_tiny_llama
from tests.integration.models.conftest import KEY
from tests.integration.models.test_openai_compatible import ask

pytestmark = pytest.mark.anyio

Open = Callable[..., Any]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(write_tiny_llama(tmp_path / "tiny.gguf"))
    parameters.warmup = False
    parameters.verbosity = -1
    parameters.cpuparams.n_threads = 1
    parameters.api_keys = [KEY]
    servers = [xllamacpp.Server(parameters)]
    address = servers[0].listening_address

    def open_with(key: str = KEY) -> Any:
        settings = ModelSettings(
            provider="anthropic",
            base_url=address,
            model="tiny-llama",
            api_key_env="KEY",
        )
        return aclosing(open_adapter(settings, environment={"KEY": key}))

    yield open_with
    # The last reference ends the server.
    await asyncio.to_thread(servers.clear)


async def test_a_real_server_answers_streams_and_counts(opened: Open) -> None:
    async with opened() as model:
        await model.health()
        whole = await model.generate(ask(max_output_tokens=16))
        async with aclosing(model.stream(ask(max_output_tokens=16))) as events:
            *pieces, done = [event async for event in events]
    assert isinstance(done, Done)
    assert done.result.text == "".join(p.text for p in pieces if isinstance(p, TextDelta))
    for result in (whole, done.result):
        assert result.text
        assert result.usage.source == "provider"
        assert (result.usage.output_tokens or 99) <= 16


async def test_a_real_servers_failures_have_their_kinds(opened: Open) -> None:
    async with opened() as model:
        with pytest.raises(ModelError) as too_long:
            await model.generate(ask("word " * 3000, max_output_tokens=5))
    async with opened("sk-wrong-1234") as model:
        with pytest.raises(ModelError) as refused:
            await model.generate(ask(max_output_tokens=5))
    assert (too_long.value.kind, refused.value.kind) == ("context_length", "auth")
