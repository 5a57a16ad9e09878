"""The same small agent in each framework, in front of the scripted server of a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.support.openai_server import MODEL

KEY = "sk-test-1a2b3c4d5e6f7a8b9c0d"
INSTRUCTIONS = "Be brief."

Tool: TypeAlias = Callable[..., str]


class City(BaseModel):
    name: str
    size: int


def weather(place: str) -> str:
    """Tells the weather of a place."""
    return f"sunny in {place}"


def client(base_url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0)


def langgraph(base_url: str, *, tools: list[Tool], output: Any) -> Any:
    from langchain.agents import create_agent
    from langchain.agents.structured_output import ProviderStrategy
    from langchain_openai import ChatOpenAI
    from langgraph.checkpoint.memory import InMemorySaver

    model = ChatOpenAI(
        model=MODEL, base_url=base_url, api_key=KEY, max_retries=0, stream_usage=True
    )
    return create_agent(
        model,
        tools=tools,
        system_prompt=INSTRUCTIONS,
        response_format=None if output is None else ProviderStrategy(output),
        checkpointer=InMemorySaver(),
    )


def pydantic_ai(base_url: str, *, tools: list[Tool], output: Any) -> Any:
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client(base_url)))
    kind = str if output is None else NativeOutput(output)
    return Agent(model, instructions=INSTRUCTIONS, tools=tools, output_type=kind)


def pydantic_ai_responses(base_url: str, *, tools: list[Tool], output: Any) -> Any:
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIResponsesModel(MODEL, provider=OpenAIProvider(openai_client=client(base_url)))
    kind = str if output is None else NativeOutput(output)
    return Agent(model, instructions=INSTRUCTIONS, tools=tools, output_type=kind)


def openai_agents(base_url: str, *, tools: list[Tool], output: Any) -> Any:
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, function_tool

    return Agent(
        "helper",
        instructions=INSTRUCTIONS,
        model=OpenAIChatCompletionsModel(MODEL, client(base_url)),
        model_settings=ModelSettings(include_usage=True),
        tools=[function_tool(tool) for tool in tools],
        output_type=output,
    )


def openai_agents_responses(base_url: str, *, tools: list[Tool], output: Any) -> Any:
    from agents import Agent, OpenAIResponsesModel, function_tool

    return Agent(
        "helper",
        instructions=INSTRUCTIONS,
        model=OpenAIResponsesModel(MODEL, client(base_url)),
        tools=[function_tool(tool) for tool in tools],
        output_type=output,
    )


def agent_framework(base_url: str, *, tools: list[Tool], output: Any) -> Any:
    from agent_framework import Agent
    from agent_framework.openai import OpenAIChatCompletionClient

    return Agent(
        OpenAIChatCompletionClient(MODEL, async_client=client(base_url)),
        INSTRUCTIONS,
        tools=tools,
        default_options=None if output is None else {"response_format": output},
    )


def agent_framework_responses(base_url: str, *, tools: list[Tool], output: Any) -> Any:
    from agent_framework import Agent
    from agent_framework.openai import OpenAIChatClient

    return Agent(
        OpenAIChatClient(MODEL, async_client=client(base_url)),
        INSTRUCTIONS,
        tools=tools,
        default_options=None if output is None else {"response_format": output},
    )


Maker: TypeAlias = Callable[..., Any]

MAKERS: Mapping[str, Maker] = {
    "langgraph": langgraph,
    "pydantic-ai": pydantic_ai,
    "pydantic-ai-responses": pydantic_ai_responses,
    "openai-agents": openai_agents,
    "openai-agents-responses": openai_agents_responses,
    "agent-framework": agent_framework,
    "agent-framework-responses": agent_framework_responses,
}
