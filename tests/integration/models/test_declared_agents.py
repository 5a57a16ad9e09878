"""Agents declared without code, on the bus, in front of a scripted model server."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from msgspec import UNSET, structs

from dragoman_agents import serving
from dragoman_agents.configuration import AgentDeclaration, load_configuration
from dragoman_agents.declared import build_agent, declared_agent
from dragoman_agents.models import ModelSettings, OpenAICompatible
from dragoman_agents.models.settings import ListedPrice
from dragoman_bus import Bus
from dragoman_bus.client import Submission
from dragoman_bus.protocol.a2a import Message, Part, Role, text_part
from dragoman_bus.protocol.codec import encode
from dragoman_bus.protocol.envelopes import Sender
from dragoman_bus.protocol.errors import NotConfigured, TaskCanceled, TaskFailed, TaskRejected
from dragoman_bus.protocol.messages import TaskSubmit
from dragoman_bus.protocol.payloads import Cost, ModelIdentity, Usage
from dragoman_bus.protocol.traces import TraceContext
from dragoman_bus.transports.memory import MemoryBroker
from tests.support.openai_server import Failure, OpenAIServer, Raw, Reply, chunk, server_sent

pytestmark = pytest.mark.anyio

FILE = """
[[agents]]
name = "clerk"
description = "Reads letters"
prompt = "You are brief."
concurrency = 2

[agents.model]
base_url = "BASE_URL"
model = "tiny-llama-1b"
vendor = "test"
max_output_tokens = 64
structured_output = true
temperature = 0.0

[agents.model.price]
input_per_million_tokens = 2.0
output_per_million_tokens = 10.0
currency = "EUR"
as_of = 2026-11-01

[[agents.skills]]
id = "summarize"
description = "Summarizes a text"
tags = ["text"]
prompt = "Summarize in {{sentences}} sentences: {{text}}"

[agents.skills.input]
type = "object"
required = ["text"]
[agents.skills.input.properties]
text = { type = "string" }
sentences = { type = "integer", minimum = 1, default = 3 }

[[agents.skills]]
id = "classify"
description = "Says whether a letter is a complaint"

[agents.skills.output]
type = "object"
required = ["complaint"]
additionalProperties = false
[agents.skills.output.properties]
complaint = { type = "boolean" }
"""

Serve = Callable[[AgentDeclaration], Awaitable[Bus]]


@pytest.fixture
def declaration(server: OpenAIServer, tmp_path: Path) -> AgentDeclaration:
    file = tmp_path / "dragoman.toml"
    file.write_text(FILE.replace("BASE_URL", server.base_url))
    return load_configuration(file, environment={}).agents[0]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:
        broker = MemoryBroker()

        async def start(declaration: AgentDeclaration) -> Bus:
            assert declaration.model is not None
            adapter = OpenAICompatible(declaration.model)
            await stack.enter_async_context(aclosing(adapter))
            agent = declared_agent(declaration, adapter=adapter)
            await stack.enter_async_context(serving(agent, broker.connect(), grace_seconds=1.0))
            return await stack.enter_async_context(Bus(broker.connect()))

        yield start


async def test_text_is_streamed_with_usage_cost_and_provenance(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    server.answer_with(Reply(pieces=("Short", " and", " good"), model="tiny-llama-1b-0042"))
    bus = await serve(declaration)
    result = await bus.ask("summarize", {"text": "A long letter", "sentences": 2})
    assert result.text == "Short and good"
    assert result.usage == Usage(
        input_tokens=7,
        output_tokens=2,
        calls=1,
        cost=Cost(amount=0.000034, currency="EUR"),
        source="provider",
    )
    assert result.receipt is not None
    assert result.receipt.model == ModelIdentity(
        provider="test", family="tiny", model="tiny-llama-1b-0042"
    )
    assert result.output is not None
    assert len(result.output.parts) == 3
    body = server.chats[0].body
    assert body["messages"] == [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "Summarize in 2 sentences: A long letter"},
    ]
    assert (body["max_tokens"], body["temperature"]) == (64, 0.0)


async def test_plain_text_fills_the_text_of_the_input_and_defaults_the_rest(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    bus = await serve(declaration)
    result = await bus.ask("summarize", "A letter")
    assert result.text == "You said: Summarize in 3 sentences: A letter"


async def test_a_skill_with_an_output_schema_answers_with_json(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    server.answer_with(Reply(pieces=('{"complaint": true}',)))
    bus = await serve(declaration)
    result = await bus.ask("classify", "I am not amused")
    assert result.value == {"complaint": True}
    assert server.chats[0].body["response_format"]["type"] == "json_schema"
    assert server.chats[0].body["messages"][-1]["content"] == "I am not amused"


async def test_json_that_breaks_the_output_schema_fails_the_task(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    server.answer_with(*[Reply(pieces=('{"complaint": "perhaps"}',))] * 2)
    bus = await serve(declaration)
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("classify", "I am not amused")
    assert failed.value.code == "INVALID_OUTPUT"


async def test_the_models_failure_reaches_the_caller_with_its_retry_time(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    server.answer_with(Failure(429, {"message": "slow down"}, {"Retry-After": "9"}))
    bus = await serve(declaration)
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("summarize", "A letter", retries=0)
    assert failed.value.code == "MODEL_RATE_LIMITED"
    assert failed.value.retryable
    assert failed.value.retry_after == 9.0


async def test_without_a_price_the_cost_is_unknown(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    assert declaration.model is not None
    free = structs.replace(declaration, model=structs.replace(declaration.model, price=None))
    bus = await serve(free)
    result = await bus.ask("summarize", "A letter")
    assert result.usage is not None
    assert result.usage.input_tokens == 7
    assert result.usage.cost is UNSET


async def test_an_input_that_does_not_fit_never_reaches_the_model(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    bus = await serve(declaration)
    with pytest.raises(TaskRejected) as refused:
        await bus.ask("summarize", {"text": "A letter", "sentences": 0})
    assert refused.value.code == "INVALID_INPUT"
    assert server.chats == []


async def test_canceling_the_task_closes_the_models_connection(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    server.answer_with(Raw(server_sent(chunk({"content": "a"})), stall=True))
    bus = await serve(declaration)
    task = await bus.submit("summarize", "A letter")
    await asyncio.wait_for(server.stalling.wait(), 5)
    await task.cancel()
    with pytest.raises(TaskCanceled):
        await task.result()
    await asyncio.wait_for(server.client_gone.wait(), 5)


async def test_the_announcement_tells_model_price_and_contracts(
    server: OpenAIServer, declaration: AgentDeclaration
) -> None:
    assert declaration.model is not None
    async with aclosing(OpenAICompatible(declaration.model)) as adapter:
        agent = declared_agent(declaration, adapter=adapter)
    announced = agent.announcement()
    assert isinstance(announced.models, list)
    facts = announced.models[0]
    assert (facts.provider, facts.model) == ("test", "tiny-llama-1b")
    assert getattr(facts.price, "as_of", None) == "2026-11-01"
    assert [contract.text_input for contract in announced.contracts] == ["text", "text"]
    assert agent.concurrency == 2


async def test_a_declared_agent_without_its_key_does_not_start(
    server: OpenAIServer, declaration: AgentDeclaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    model = ModelSettings(base_url=server.base_url, model="m", api_key_env="NO_SUCH_KEY")
    with pytest.raises(NotConfigured, match="NO_SUCH_KEY"):
        build_agent(structs.replace(declaration, model=model))


async def test_a_module_table_loads_the_agent_of_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text(
        "from dragoman_agents import Agent\n"
        "agent = Agent('greeter', description='Greets')\n"
        "@agent.skill\n"
        "async def greet(text: str) -> str:\n"
        "    return text\n"
    )
    file = tmp_path / "dragoman.toml"
    file.write_text('[[agents]]\nmodule = "greeter.py:agent"\nconcurrency = 3\n')
    agent = build_agent(load_configuration(file, environment={}).agents[0])
    assert (agent.name, agent.concurrency) == ("greeter", 3)


async def test_the_tasks_limits_bound_what_the_model_may_write(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    bus = await serve(declaration)
    await bus.ask("summarize", "A letter", max_tokens=40)
    # 10 EUR for a million output tokens.
    await bus.ask("summarize", "A letter", max_cost=Cost(amount=0.0002, currency="EUR"))
    await bus.ask("summarize", "A letter", max_cost=Cost(amount=0.0002, currency="USD"))
    assert [chat.body["max_tokens"] for chat in server.chats] == [40, 20, 64]


async def test_a_task_that_may_use_nothing_does_not_reach_the_model(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    bus = await serve(declaration)
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("summarize", "A letter", max_cost=Cost(amount=0.000001, currency="EUR"))
    assert failed.value.code == "LIMIT_EXCEEDED"
    assert server.chats == []


async def test_the_requests_trace_reaches_the_models_server(
    server: OpenAIServer, declaration: AgentDeclaration
) -> None:
    broker = MemoryBroker()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sender = Sender("dragoman:caller/test", time.time, lambda: "message-1")
    submission = Submission(skill="summarize", input="A letter")
    message = sender.wrap(TaskSubmit, submission.data(time.time()), trace=TraceContext(trace))
    caller = broker.connect()
    async with serving(build_agent(declaration), broker.connect()):
        await caller.publish(submission.subject(), encode(message), reply=caller.new_inbox())
        await asyncio.wait_for(server.asked.wait(), 5)
    assert server.chats[0].headers["traceparent"] == trace


async def test_an_answer_that_was_repaired_says_so(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    server.answer_with(Reply(pieces=('{"complaint": 1}',)), Reply(pieces=('{"complaint": true}',)))
    bus = await serve(declaration)
    task = await bus.submit("classify", "I am not amused")
    told = str([update async for update in task])
    result = await task.result()
    assert result.value == {"complaint": True}
    assert result.usage is not None
    assert result.usage.input_tokens == 14
    assert "The model's first answer did not fit the output's schema." in told


async def test_the_adapter_is_closed_when_its_agent_stops(
    server: OpenAIServer, declaration: AgentDeclaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Closing(OpenAICompatible):
        async def aclose(self) -> None:
            closed.append(self)
            await super().aclose()

    monkeypatch.setattr("dragoman_agents.models.openai_compatible.OpenAICompatible", Closing)
    agent = build_agent(declaration)
    broker = MemoryBroker()
    async with serving(agent, broker.connect()):
        async with serving(agent, broker.connect()):
            pass
        assert closed == []
    assert len(closed) == 1


async def test_the_model_that_served_is_what_is_paid_for(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    assert declaration.model is not None
    assert declaration.model.price is not None
    listed = ListedPrice(
        provider="openai-compatible", model="tiny-*", **structs.asdict(declaration.model.price)
    )
    model = structs.replace(declaration.model, price=None, prices=(listed,))
    bus = await serve(structs.replace(declaration, model=model))
    server.answer_with(Reply(model="tiny-llama-1b-0042"), Reply(model="huge-llama-400b"))
    small = await bus.ask("summarize", "A letter")
    large = await bus.ask("summarize", "A letter")
    assert small.usage is not None
    assert large.usage is not None
    assert small.usage.cost == Cost(amount=0.000034, currency="EUR")
    assert large.usage.cost is UNSET


def with_files(*parts: Part) -> Message:
    """A message that asks about what is attached to it."""
    return Message(
        message_id="message-1",
        role=Role.USER,
        parts=[text_part("What is this?"), *parts],
    )


PICTURE = Part(raw=base64.b64encode(b"GIF89a").decode(), media_type="image/gif")


async def test_pictures_in_the_message_reach_a_model_that_takes_them(
    server: OpenAIServer, declaration: AgentDeclaration, serve: Serve
) -> None:
    assert declaration.model is not None
    sighted = structs.replace(declaration.model, attachments=("image",))
    bus = await serve(structs.replace(declaration, model=sighted))
    there = Part(url="https://example.com/cat.png", media_type="image/png")
    server.answer_with(Reply(pieces=("A cat",)))
    assert (await bus.ask("summarize", with_files(PICTURE, there))).text == "A cat"
    (view,) = await bus.discover(skill="summarize")
    assert "image/*" in (view.announce.card.skills[0].input_modes or [])
    assert server.chats[0].body["messages"][-1]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "text", "text": "Summarize in 3 sentences: What is this?"},
    ]


@pytest.mark.parametrize(
    ("part", "code", "words"),
    [
        (PICTURE, "MODEL_INVALID", "takes no image, by its configuration"),
        (Part(raw="R0lGODlh"), "INVALID_INPUT", "needs its mediaType"),
        (Part(raw="?", media_type="image/gif"), "INVALID_INPUT", "not base64"),
    ],
    ids=["a-blind-model", "no-media-type", "no-base64"],
)
async def test_a_picture_that_cannot_be_used_is_refused_and_not_dropped(
    server: OpenAIServer,
    declaration: AgentDeclaration,
    serve: Serve,
    part: Part,
    code: str,
    words: str,
) -> None:
    bus = await serve(declaration)
    with pytest.raises((TaskFailed, TaskRejected), match=words) as failed:
        await bus.ask("summarize", with_files(part))
    assert failed.value.code == code
    assert server.chats == []
