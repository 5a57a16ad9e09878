"""An agent without code: a model, a prompt and skills from the configuration file.

Text is streamed as the model writes it; a skill with an output schema answers with JSON. Pictures
and files in a task's message reach a model that takes them (``attachments``). Every
task says which model served it, what it used and, where a price is declared, what it cost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from dragoman_agents.agent import Agent
from dragoman_agents.attachments import attachments_of
from dragoman_agents.configuration.tables import AgentDeclaration, SkillDeclaration
from dragoman_agents.context import Context
from dragoman_agents.ensembles.agents.declaring import declared_ensemble
from dragoman_agents.loading import load_agent
from dragoman_agents.models import port
from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.port import Done, Message, ModelAdapter, Request, Result, TextDelta
from dragoman_agents.models.pricing import affordable_tokens, model_facts, price_of, task_usage
from dragoman_agents.models.providers import open_adapter
from dragoman_agents.models.settings import ModelSettings
from dragoman_agents.prompts import render_prompt
from dragoman_bus.artifacts import ArtifactReference
from dragoman_bus.protocol.errors import LocalError, NotConfigured

__all__ = ["build_agent", "declared_agent"]

MODES: Mapping[str, tuple[str, ...]] = {
    "image": ("image/*",),
    "file": ("application/*", "audio/*", "text/*", "video/*"),
}
"""The media types of the kinds of attachments that a model takes."""


def build_agent(declaration: AgentDeclaration) -> Agent:
    """The agent of one ``[[agents]]`` table, loaded from its module or made from its declaration.

    Raises:
        NotConfigured: the module, the model's key or the model's package is missing.
    """
    if declaration.module is None:
        return declared_agent(declaration)
    agent = load_agent(declaration.module)
    if declaration.concurrency is not None:
        agent.concurrency = declaration.concurrency
    return agent


def declared_agent(declaration: AgentDeclaration, *, adapter: ModelAdapter | None = None) -> Agent:
    """An ``Agent`` whose skills ask the declared model, or its members if it is an ensemble.

    Args:
        declaration: A table without ``module``.
        adapter: Instead of the one that the declaration names; closing it is the caller's. The
            one that the declaration names is closed when the agent stops.

    Raises:
        NotConfigured: the model's key or package is missing.
    """
    if declaration.ensemble is not None:
        return declared_ensemble(declaration)
    if declaration.name is None or declaration.model is None:
        raise NotConfigured(f"{declaration.label} is not declared without code: it has a module")
    settings = declaration.model
    asked = adapter if adapter is not None else open_adapter(settings)
    options: dict[str, Any] = {}
    if declaration.concurrency is not None:
        options["concurrency"] = declaration.concurrency
    agent = Agent(
        declaration.name,
        description=declaration.description or "",
        version=declaration.version,
        models=[model_facts(settings)],
        **options,
    )
    if adapter is None:
        agent.on_stop(asked.aclose)
    for skill in declaration.skills:
        asking = _ModelSkill(skill, declaration.prompt, settings, asked)
        agent.add_skill(
            skill.id,
            asking.run,
            description=skill.description,
            tags=skill.tags,
            input_schema=skill.input_schema,
            output_schema=skill.output_schema,
            text_input=skill.text_member,
            input_modes=[mode for kind in settings.attachments for mode in MODES[kind]],
        )
    return agent


class _ModelSkill:
    """One declared skill: an input becomes a prompt, the model's answer the output."""

    def __init__(
        self,
        skill: SkillDeclaration,
        system: str | None,
        settings: ModelSettings,
        adapter: ModelAdapter,
    ) -> None:
        self._skill = skill
        self._system = system
        self._settings = settings
        self._adapter = adapter

    async def run(self, input: Mapping[str, Any], ctx: Context) -> Any:
        """Ask the model and report what the call used, however it ended."""

        async def fetch(named: ArtifactReference) -> bytes:
            # Not before it is needed: a bus in memory has no store.
            return await ctx.artifacts.get(named)

        request = self._request(input, ctx, await attachments_of(ctx.message, fetch))
        used, served = port.Usage(), self._settings.model
        try:
            if self._skill.is_structured:
                answer = await self._adapter.generate(request)
            else:
                answer = await self._stream(request, ctx)
            used, served = answer.usage, answer.model
        except ModelError as error:
            used = error.usage or used
            raise
        finally:
            ctx.report_usage(task_usage(used, price_of(self._settings, served)))
        facts = model_facts(self._settings)
        ctx.served_by(provider=facts.provider, family=facts.family, model=answer.model)
        if answer.schema_mode == "repaired":
            await ctx.status("The model's first answer did not fit the output's schema.")
        if answer.finish == "length":
            await ctx.status("The model's answer was cut off at its token limit.")
        return answer.data if self._skill.is_structured else answer.text

    def _request(
        self, input: Mapping[str, Any], ctx: Context, attachments: tuple[port.Attachment, ...]
    ) -> Request:
        remaining = ctx.deadline
        prompt = render_prompt(self._skill.prompt, self._skill.with_defaults(input))
        return Request(
            messages=(Message(role="user", text=prompt, attachments=attachments),),
            system=self._system,
            schema=self._skill.output_schema if self._skill.is_structured else None,
            max_output_tokens=self._most_tokens(ctx),
            temperature=self._settings.temperature,
            deadline=None if remaining is None else time.monotonic() + remaining,
            headers=ctx.trace_headers,
        )

    def _most_tokens(self, ctx: Context) -> int | None:
        """The output limit: configuration's, or less where the task's own limits leave less."""
        price = price_of(self._settings, self._settings.model)
        affordable = affordable_tokens(ctx.remaining_cost, price)
        limits = (self._settings.max_output_tokens, ctx.remaining_tokens, affordable)
        given = [limit for limit in limits if limit is not None]
        if given and min(given) < 1:
            raise LocalError("the task's limits leave nothing for a model", code="LIMIT_EXCEEDED")
        return min(given, default=None)

    async def _stream(self, request: Request, ctx: Context) -> Result:
        answer: Result | None = None
        # Closed here and now when the task is canceled or its caller is gone.
        async with aclosing(self._adapter.stream(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    await ctx.emit(event.text)
                elif isinstance(event, Done):
                    answer = event.result
        assert answer is not None, "an adapter's stream ends with Done or raises"
        return answer
