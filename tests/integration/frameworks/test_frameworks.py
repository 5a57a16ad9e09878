"""What only one framework has: threads and questions, sessions, dependencies, its own limits."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

import pytest
from typing_extensions import TypedDict

from dragoman_agents import wrap
from dragoman_bus.protocol.a2a import Message, Part, Role
from dragoman_bus.protocol.errors import NotConfigured, TaskFailed
from tests.integration.frameworks import makers
from tests.integration.frameworks.conftest import Serve
from tests.integration.frameworks.makers import City, weather
from tests.support.openai_server import MODEL, OpenAIServer, Reply

pytestmark = pytest.mark.anyio

CALL = Reply(
    pieces=(), finish="tool_calls", tool_calls=[("call-1", "weather", ('{"place": "Rome"}',))]
)


TRANSFER = ("call-1", "transfer_to_helper", ("{}",))


class Letter(TypedDict):
    topic: str


class Written(TypedDict):
    topic: str
    words: int


async def test_a_graph_with_a_state_of_its_own_has_the_schemas_of_its_state(serve: Serve) -> None:
    from langgraph.graph import START, StateGraph

    async def write(state: Letter) -> dict[str, Any]:
        return {"words": len(state["topic"].split())}

    graph = StateGraph(Written, input_schema=Letter, output_schema=Written)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    agent = wrap(graph.compile(), "writer", skill="write")
    bus = await serve(agent)

    assert (await bus.ask("write", {"topic": "a b c"})).value == {"topic": "a b c", "words": 3}
    assert (await bus.ask("write", "a b")).value == {"topic": "a b", "words": 2}
    contract = agent.skills["write"].contract
    assert contract.input_schema["properties"]["topic"]["type"] == "string"
    assert contract.output_schema["properties"]["words"]["type"] == "integer"


async def test_a_state_without_a_json_schema_is_still_served(serve: Serve) -> None:
    from langgraph.graph import START, StateGraph

    class Odd(TypedDict):
        topic: str
        lock: threading.Lock

    async def write(state: Odd) -> dict[str, Any]:
        return {"topic": state["topic"].upper()}

    graph = StateGraph(Odd)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    bus = await serve(wrap(graph.compile(), "writer", skill="write"))

    assert (await bus.ask("write", {"topic": "a"})).value == {"topic": "A"}


async def test_what_a_graph_asks_is_asked_of_the_caller(serve: Serve) -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.types import interrupt

    def book(state: MessagesState) -> dict[str, Any]:
        day = interrupt("Which day?")
        return {"messages": [{"role": "assistant", "content": f"booked for {day}"}]}

    graph = StateGraph(MessagesState)
    graph.add_node("book", book)
    graph.add_edge(START, "book")
    bus = await serve(wrap(graph.compile(checkpointer=InMemorySaver()), "clerk", skill="book"))
    task = await bus.submit("book", "a table")
    async for _ in task:
        if task.question is not None:
            await task.reply("Monday")

    assert (await task.result()).text == "booked for Monday"


async def test_the_tokens_of_models_inside_a_graph_count_and_its_parts_stream(
    server: OpenAIServer, serve: Serve
) -> None:
    from langgraph.graph import START, MessagesState, StateGraph

    inner = makers.langgraph(server.base_url, tools=[], output=None)

    async def ask_twice(state: MessagesState) -> dict[str, Any]:
        await inner.ainvoke(state)
        return {"messages": (await inner.ainvoke(state))["messages"][-1:]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask_twice)
    graph.add_edge(START, "ask")
    result = await (await serve(wrap(graph.compile(), "twice", skill="ask"))).ask("ask", "Hello")

    assert result.text == "You said: Hello"
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.calls) == (14, 2)


async def test_a_graph_that_is_not_compiled_is_refused() -> None:
    from langgraph.graph import MessagesState, StateGraph

    with pytest.raises(NotConfigured, match="compile"):
        wrap(StateGraph(MessagesState), "helper")


async def test_pydantic_ais_dependencies_are_handed_to_its_runs(
    server: OpenAIServer, serve: Serve
) -> None:
    from pydantic_ai import RunContext

    agent = makers.pydantic_ai(server.base_url, tools=[], output=None)

    @agent.instructions  # type: ignore[untyped-decorator]
    def greet(context: RunContext[str]) -> str:
        return f"The user is {context.deps}."

    bus = await serve(wrap(agent, "helper", skill="help", run_options={"deps": "Ada"}))
    await bus.ask("help", "Hello")

    assert "The user is Ada." in str(server.chats[0].body)


async def test_pydantic_ai_stops_between_steps_when_the_tasks_tokens_are_used(
    server: OpenAIServer, serve: Serve
) -> None:
    server.answer_with(CALL, CALL, CALL)
    agent = makers.pydantic_ai(server.base_url, tools=[weather], output=None)
    bus = await serve(wrap(agent, "helper", skill="help"))
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("help", "Hello", max_tokens=10)

    assert failed.value.code == "LIMIT_EXCEEDED"
    assert len(server.chats) == 2


async def test_answers_in_a_session_of_the_openai_agents_sdk_outlive_the_process(
    server: OpenAIServer, serve: Serve, tmp_path: Any
) -> None:
    from agents import SQLiteSession

    agent = makers.openai_agents(server.base_url, tools=[], output=None)
    for text in ("I am Ada", "Who am I?"):
        with contextlib.closing(SQLiteSession("one", tmp_path / "sessions.db")) as session:
            wrapped = wrap(
                agent,
                f"helper{len(server.chats)}",
                skill=f"help{len(server.chats)}",
                session={"one": session}.__getitem__,
            )
            bus = await serve(wrapped)
            await bus.ask(next(iter(wrapped.skills)), text, context_id="one")

    assert "I am Ada" in json.dumps(server.chats[1].body)


@pytest.mark.parametrize("which", ["the agent itself", "one that may take over"])
async def test_what_an_output_guardrail_has_not_seen_is_not_streamed(
    server: OpenAIServer, serve: Serve, which: str
) -> None:
    from agents import Agent, GuardrailFunctionOutput, output_guardrail

    @output_guardrail
    async def nothing_secret(context: Any, agent: Any, output: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered="secret" in output)

    agent: Agent[None] = makers.openai_agents(server.base_url, tools=[], output=None)
    agent.output_guardrails.append(nothing_secret)
    if which == "one that may take over":
        agent.handoffs.append(agent)
        agent = Agent("Front desk", model=agent.model, handoffs=[agent])
        server.answer_with(
            Reply(pieces=(), finish="tool_calls", tool_calls=[TRANSFER]),
            Reply(pieces=("The", " secret")),
        )
    else:
        server.answer_with(Reply(pieces=("The", " secret")))
    bus = await serve(wrap(agent, "helper", skill="help"))
    task = await bus.submit("help", "Tell me")
    told = str([update async for update in task])
    with pytest.raises(TaskFailed, match="Guardrail"):
        await task.result()

    assert "secret" not in told


async def test_a_handoff_is_answered_by_the_agent_that_takes_over(
    server: OpenAIServer, serve: Serve
) -> None:
    from agents import Agent

    second = makers.openai_agents(server.base_url, tools=[], output=None)
    second.name = "Translator"
    first = Agent("Front desk", model=second.model, handoffs=[second])
    server.answer_with(
        Reply(
            pieces=(),
            finish="tool_calls",
            tool_calls=[("call-1", "transfer_to_translator", ("{}",))],
        ),
        Reply(pieces=("Bonjour",)),
    )
    result = await (await serve(wrap(first, skill="help"))).ask("help", "Hello")

    assert result.text == "Bonjour"
    assert result.receipt is not None
    assert result.receipt.agent == "front-desk"
    assert result.usage is not None
    assert result.usage.calls == 2


async def test_a_workflow_of_the_agent_framework_is_an_agent(
    server: OpenAIServer, serve: Serve
) -> None:
    from agent_framework import WorkflowBuilder

    one = makers.agent_framework(server.base_url, tools=[], output=None)
    workflow = WorkflowBuilder(start_executor=one, output_from="all").build()
    with pytest.raises(NotConfigured, match="as_agent"):
        wrap(workflow, "helper")
    bus = await serve(wrap(workflow.as_agent("flow"), "helper", skill="help"))

    assert (await bus.ask("help", "Hello")).text == "You said: Hello"


async def test_sessions_belong_to_frameworks_that_have_them(server: OpenAIServer) -> None:
    graph = makers.langgraph(server.base_url, tools=[], output=None)
    with pytest.raises(NotConfigured, match="checkpointer"):
        wrap(graph, "helper", session=str)
    with pytest.raises(NotConfigured, match="session"):
        agent = makers.pydantic_ai(server.base_url, tools=[], output=None)
        wrap(agent, "helper", session=str)


async def test_only_so_many_conversations_are_remembered(
    server: OpenAIServer, serve: Serve
) -> None:
    agent = makers.pydantic_ai(server.base_url, tools=[], output=None)
    bus = await serve(wrap(agent, "helper", skill="help", conversations=1))
    for context in ("one", "two", "one"):
        await bus.ask("help", f"I am {context}", context_id=context)

    assert len(server.chats[2].body["messages"]) == len(server.chats[0].body["messages"])


async def test_what_a_framework_knows_of_its_models_is_announced(server: OpenAIServer) -> None:
    for name in ("pydantic-ai", "openai-agents", "agent-framework"):
        target = makers.MAKERS[name](server.base_url, tools=[], output=None)
        (facts,) = wrap(target, "helper").models
        assert (facts.model, facts.family) == (MODEL, "tiny")


async def test_an_answer_can_be_read_off_the_frameworks_own_result(
    server: OpenAIServer, serve: Serve
) -> None:
    agent = makers.pydantic_ai(server.base_url, tools=[], output=None)
    bus = await serve(
        wrap(
            agent,
            "helper",
            skill="help",
            output=City,
            answer=lambda result: City(name=result.output, size=len(result.all_messages())),
        )
    )

    assert (await bus.ask("help", "x")).value == {"name": "You said: x", "size": 2}


async def test_pictures_go_with_a_session_too(server: OpenAIServer, serve: Serve) -> None:
    from agents import SQLiteSession

    session = SQLiteSession("talk")
    agent = makers.openai_agents(server.base_url, tools=[], output=None)
    bus = await serve(wrap(agent, "helper", skill="help", session=lambda _: session))
    picture = Part(raw="aGVsbG8=", media_type="image/png")
    message = Message(message_id="m", role=Role.USER, parts=[Part(text="What?"), picture])
    await bus.ask("help", message)
    await bus.ask("help", "And now?")

    assert "data:image/png;base64,aGVsbG8=" in json.dumps(server.chats[0].body)
    # The conversation remembers it.
    assert "data:image/png;base64,aGVsbG8=" in json.dumps(server.chats[1].body)
