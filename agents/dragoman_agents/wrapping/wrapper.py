"""``wrap``: one object of any framework becomes an agent with one skill."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from dragoman_agents.agent import Agent
from dragoman_agents.attachments import attachments_of
from dragoman_agents.context import Context
from dragoman_agents.models.port import Attachment
from dragoman_agents.names import token_of
from dragoman_agents.prompts import render_prompt
from dragoman_agents.wrapping.failures import explain
from dragoman_agents.wrapping.port import Description, Driver, Options, Reader, SessionFactory
from dragoman_agents.wrapping.run import Run
from dragoman_agents.wrapping.schemas import json_value, schema_of
from dragoman_bus.artifacts import ArtifactReference
from dragoman_bus.protocol.errors import InvalidInput, NotConfigured
from dragoman_bus.protocol.payloads import ModelFacts

__all__ = ["wrap"]

DEFAULT_CONVERSATIONS = 256
TEXT = "text"
TEXT_INPUT: Mapping[str, Any] = {
    "type": "object",
    "properties": {TEXT: {"type": "string", "minLength": 1}},
    "required": [TEXT],
    "additionalProperties": False,
}


class _Framework(NamedTuple):
    title: str
    module: str
    driver: str


PACKAGE = "dragoman_agents.wrapping"
FRAMEWORKS: Mapping[str, _Framework] = MappingProxyType(
    {
        "langgraph": _Framework("LangGraph", "langgraph_driver", "GraphDriver"),
        "pydantic_ai": _Framework("Pydantic AI", "pydantic_ai_driver", "PydanticAIDriver"),
        "agents": _Framework("the OpenAI Agents SDK", "openai_agents_driver", "OpenAIAgentsDriver"),
        "agent_framework": _Framework(
            "the Agent Framework", "agent_framework_driver", "AgentFrameworkDriver"
        ),
    }
)
"""By the package that a target's class, or a class above it, comes from."""


def wrap(
    target: Any,
    name: str | None = None,
    *,
    skill: str | None = None,
    description: str | None = None,
    version: str = "1.0.0",
    tags: Sequence[str] = (),
    examples: Sequence[str] = (),
    input_modes: Sequence[str] = (),
    concurrency: int = 16,
    queue: int = 64,
    models: Sequence[ModelFacts] | None = None,
    input: Any = None,
    prompt: str | None = None,
    output: Any = None,
    answer: Reader | None = None,
    usage: Reader | None = None,
    stream: bool = True,
    conversations: int = DEFAULT_CONVERSATIONS,
    session: SessionFactory | None = None,
    run_options: Mapping[str, Any] | None = None,
) -> Agent:
    """An agent whose one skill is ``target``.

    Its text streams; what it used and the model that served are reported, cancelling the task
    cancels what the framework does, and what its provider answers becomes one of Dragoman's errors.

    Args:
        target: A compiled LangGraph graph, an agent of Pydantic AI, of the OpenAI Agents SDK or of
            the Microsoft Agent Framework, or a function, async or not.
        name: The agent's name; default: the target's own.
        skill: The skill's id; default: the agent's name.
        description: What it does; default: what the target says of itself.
        version: The agent's own version.
        tags: Of the skill.
        examples: Texts that show what to ask.
        input_modes: Media types that its model takes beside text, as in ``image/*``.
        concurrency: Tasks at once per instance.
        queue: Tasks that may wait per instance.
        models: What is said of its models; default: what the target tells. The provider of the
            first stands in receipts where the framework names none; the price of the only one
            tells what a task cost.
        input: The input's type or JSON Schema; default: one text, or what the target declares.
        prompt: Made of the input, ``{{name}}`` by ``{{name}}``; default: its one text, or JSON.
        output: The answer's type or JSON Schema; default: what the target declares, else text.
        answer: Takes the answer out of what the framework returned, where the usual is not wanted.
        usage: Takes what was used out of what a function returned, in any SDK's form.
        stream: Whether text goes to the caller piece by piece.
        conversations: How many conversations are remembered, in memory; 0 for none. A LangGraph
            graph remembers by its checkpointer instead, a function by itself.
        session: Takes a conversation's id and gives the framework's own session, which remembers
            instead (OpenAI Agents SDK, Agent Framework).
        run_options: More keyword arguments for the framework's own call (``deps``, ``context``,
            ``max_turns``, ``config``).

    Raises:
        NotConfigured: what ``target`` is, or how it is given, cannot be served; the message says
            what to do.
    """
    options = Options(
        answer=answer,
        usage=usage,
        session=session,
        conversations=conversations,
        concurrency=concurrency,
        run_options=dict(run_options or {}),
    )
    driver = _driver(target, options)
    told = driver.describe()
    known = list(told.models if models is None else models)
    named = name or token_of(told.name or "")
    if not named:
        raise NotConfigured(f"{_kind(target)} has no name: wrap(target, name)")
    agent = Agent(
        named,
        description=description or told.words or "",
        version=version,
        concurrency=concurrency,
        queue=queue,
        models=known,
    )
    agent.on_stop(driver.aclose)
    wrapped = _Wrapped(driver, told, known, output, prompt=prompt, stream=stream, answer=answer)
    input_schema = _input_schema(input, told, prompt)
    agent.add_skill(
        skill or named,
        wrapped.run,
        description=description or told.words or f"Answers as {told.name or named}",
        tags=tags,
        examples=examples,
        input_modes=input_modes,
        input_schema=input_schema,
        output_schema=wrapped.output_schema,
        text_input=(told.text_input if input is None else None) or _text(input_schema),
    )
    return agent


class _Wrapped:
    """The skill: input to prompt, a run of the driver, its answer in builtins."""

    def __init__(
        self,
        driver: Driver,
        told: Description,
        models: Sequence[ModelFacts],
        output: Any,
        *,
        prompt: str | None,
        stream: bool,
        answer: Reader | None,
    ) -> None:
        declared = schema_of(output)
        if declared is None and output is None and answer is None:
            declared = None if told.output_schema is None else dict(told.output_schema)
        self.output_schema = declared
        self._models = models
        self._driver = driver
        self._prompt = prompt
        self._has_input = told.input_schema is not None
        self._takes_attachments = told.takes_attachments
        self._streams = stream and declared is None and answer is None

    async def run(self, input: Any, ctx: Context) -> Any:
        """Answer one task."""
        attached = await self._attached(ctx)
        run = Run(ctx, streams=self._streams, models=self._models, attachments=attached)
        given = input if self._has_input else render_prompt(self._prompt, input)
        try:
            value = await self._driver.run(given, run)
        except Exception as error:
            if ctx.canceled:
                # Some frameworks make an error of their own of being cancelled.
                raise asyncio.CancelledError from None
            failure = explain(error)
            if failure is None:
                raise
        else:
            run.check_limits()
            return value if isinstance(value, str) else json_value(value)
        # Raised out here, it drags no exception of an SDK along, whose text may hold a key.
        raise failure

    async def _attached(self, ctx: Context) -> tuple[Attachment, ...]:
        """The pictures and files of the task. What cannot be given on is refused, never dropped."""
        if self._takes_attachments is None:
            return ()

        async def fetch(named: ArtifactReference) -> bytes:
            # Not before it is needed: a bus in memory has no store.
            return await ctx.artifacts.get(named)

        attached = await attachments_of(ctx.message, fetch)
        if attached and not self._takes_attachments:
            raise InvalidInput(f"{ctx.agent} takes no pictures or files")
        return attached


def _driver(target: Any, options: Options) -> Driver:
    if inspect.isclass(target):
        raise NotConfigured(f"{target.__name__} is a class; wrap an object of it, or a function")
    found = _framework(target)
    if found is not None:
        if options.usage is not None:
            raise NotConfigured(f"what {found.title} used is known: leave usage= out")
        module = importlib.import_module(f"{PACKAGE}.{found.module}")
        driver: Driver = getattr(module, found.driver)(target, options)
        return driver
    if not callable(target):
        raise NotConfigured(
            f"{_kind(target)} cannot be wrapped as it is: wrap a function that calls it, and give "
            "answer= to take the text out of what it returns"
        )
    if options.session is not None or options.run_options:
        raise NotConfigured("session= and run_options= are for frameworks, not for a function")
    from dragoman_agents.wrapping.callable_driver import CallableDriver

    return CallableDriver(target, options)


def _framework(target: Any) -> _Framework | None:
    """Whose object it is, by the name of the package, so that nothing is imported to find out."""
    if inspect.isroutine(target):
        return None
    for kind in type(target).__mro__:
        package = kind.__module__.partition(".")[0]
        # Many a project has a package "agents" of its own.
        if package in FRAMEWORKS and (package != "agents" or hasattr(target, "handoffs")):
            return FRAMEWORKS[package]
    return None


def _kind(target: Any) -> str:
    kind = type(target)
    package = kind.__module__.partition(".")[0]
    return kind.__qualname__ if package == "builtins" else f"{package}'s {kind.__qualname__}"


def _input_schema(given: Any, told: Description, prompt: str | None) -> dict[str, Any]:
    if prompt is not None and told.input_schema is not None:
        raise NotConfigured("prompt= is for targets that take a text; this one takes its own input")
    schema = schema_of(given) or dict(told.input_schema or TEXT_INPUT)
    if schema.get("type") != "object":
        raise NotConfigured("an input has members with names: input= is a type with fields")
    return schema


def _text(schema: Mapping[str, Any]) -> str | None:
    """The member that a text fills: the one that is required, if it is a text."""
    required = schema.get("required", ())
    if len(required) != 1:
        return None
    member = schema.get("properties", {}).get(required[0], {})
    return required[0] if member.get("type") == "string" else None
