"""A wrapped agent of each framework on a real bus, in front of a scripted model server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest

from dragoman_agents import Agent, serving, wrap
from dragoman_bus import Bus
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from tests.integration.frameworks.makers import KEY, MAKERS
from tests.support.openai_server import OpenAIServer

Serve: TypeAlias = Callable[[Agent], Awaitable[Bus]]


@pytest.fixture(autouse=True)
def nothing_leaves_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    monkeypatch.setenv("TEST_API_KEY", KEY)


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as running:
        yield running


@pytest.fixture
async def serve(nats_server: NatsServer) -> AsyncIterator[Serve]:
    """Serve an agent; gives a caller's bus."""
    async with AsyncExitStack() as stack:

        async def connect() -> NatsTransport:
            transport = await NatsTransport.connect(NatsOptions.from_url(nats_server.url))
            stack.push_async_callback(transport.close)
            return transport

        async def start(agent: Agent) -> Bus:
            await stack.enter_async_context(serving(agent, await connect(), grace_seconds=1.0))
            return await stack.enter_async_context(Bus(await connect()))

        yield start


class Stage:
    """One framework: makes its agents, wraps and serves them."""

    def __init__(self, name: str, server: OpenAIServer, serve: Serve) -> None:
        self.name = name
        self.server = server
        self._serve = serve

    def make(self, *, tools: Any = (), output: Any = None) -> Any:
        return MAKERS[self.name](self.server.base_url, tools=list(tools), output=output)

    async def serve(self, *, tools: Any = (), output: Any = None, **options: Any) -> Bus:
        """Serve it as the agent ``helper`` with the skill ``help``."""
        if output is not None and self.name == "langgraph":
            options["output"] = output  # a graph does not say what create_agent was told
        target = self.make(tools=tools, output=output)
        return await self._serve(wrap(target, "helper", skill="help", **options))


@pytest.fixture(params=list(MAKERS))
def stage(request: pytest.FixtureRequest, server: OpenAIServer, serve: Serve) -> Stage:
    return Stage(request.param, server, serve)
