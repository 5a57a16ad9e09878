"""Agents of Microsoft's Agent Framework: chat agents, workflows as agents, and any other with
``run(messages, *, stream, session)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from dragoman_agents.models.port import Attachment
from dragoman_agents.models.settings import family_of
from dragoman_agents.wrapping.conversations import Conversation, Conversations
from dragoman_agents.wrapping.port import Description, Options
from dragoman_agents.wrapping.run import Run
from dragoman_agents.wrapping.schemas import schema_of
from dragoman_bus.protocol.errors import NotConfigured, RemoteError
from dragoman_bus.protocol.payloads import ModelFacts

__all__ = ["AgentFrameworkDriver"]


class AgentFrameworkDriver:
    """Runs one agent of the Agent Framework."""

    def __init__(self, agent: Any, options: Options) -> None:
        if not hasattr(agent, "create_session"):
            raise NotConfigured(
                f"a {type(agent).__name__} of the Agent Framework is no agent; wrap an Agent, or a "
                "workflow's as_agent()"
            )
        self._agent = agent
        self._options = options
        self._conversations = Conversations(options.conversations)

    def describe(self) -> Description:
        """See ``Driver.describe``."""
        defaults = getattr(self._agent, "default_options", None) or {}
        return Description(
            name=self._agent.name,
            words=self._agent.description,
            output_schema=_output_schema(
                self._options.run_options.get("options", {}).get("response_format")
                or defaults.get("response_format")
            ),
            models=_models(self._agent, defaults.get("model")),
            takes_attachments=True,
        )

    async def run(self, given: Any, run: Run) -> Any:
        """See ``Driver.run``."""
        async with self._conversations.turn(run.context_id) as conversation:
            options = {**self._options.run_options, "session": self._session(conversation, run)}
            feed = _message(given, run.attachments) if run.attachments else given
            if run.streams:
                response = await self._stream(feed, options, run)
            else:
                response = await self._agent.run(feed, **options)
            run.used(response.usage_details)
            run.check_whole(response.finish_reason, model=_served(response))
        if response.user_input_requests:
            raise RemoteError(
                "the agent waits for an approval, which cannot be given over the bus; wrap an "
                "agent whose tools need none",
                code="SKILL_FAILED",
                side_effects="possible",
            )
        run.served(_served(response), _provider(self._agent))
        if self._options.answer is not None:
            return self._options.answer(response)
        value = response.value
        return _last_text(response) if value is None else value

    async def aclose(self) -> None:
        """Forget the conversations."""
        self._conversations.clear()

    def _session(self, conversation: Conversation, run: Run) -> Any:
        if self._options.session is not None:
            return self._options.session(run.context_id)
        session = conversation.memory or self._agent.create_session(session_id=run.context_id)
        if self._options.conversations:
            conversation.memory = session
        return session

    async def _stream(self, feed: Any, options: dict[str, Any], run: Run) -> Any:
        stream = self._agent.run(feed, stream=True, **options)
        async with aclosing(_Closing(stream)):
            tools = 0
            async for update in stream:
                if update.role in (None, "assistant"):
                    await run.emit(update.text, message=(update.message_id, tools))
                else:
                    tools += 1
            return await stream.get_final_response()


def _message(given: str, attachments: Sequence[Attachment]) -> Any:
    """The prompt with its pictures and files, as the framework takes them."""
    from agent_framework import Content, Message

    contents = [
        Content.from_uri(one.uri or "", media_type=one.media_type, name=one.name)
        if one.data is None
        else Content.from_data(one.data, one.media_type, name=one.name)
        for one in attachments
    ]
    return Message("user", [*contents, Content.from_text(given)])


class _Closing:
    """The framework calls ``close`` what Python calls ``aclose``."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def aclose(self) -> None:
        await self._stream.close()


def _output_schema(response_format: Any) -> dict[str, Any] | None:
    """The schema of ``response_format``: a type, a JSON Schema, or OpenAI's way to send one."""
    if isinstance(response_format, Mapping):
        inner = response_format.get("json_schema", response_format)
        return dict(inner.get("schema", inner))
    return schema_of(response_format)


def _last_text(response: Any) -> str:
    """What the agent said last; the text of a response is all that it said on its way."""
    said = [str(message.text) for message in response.messages if message.role == "assistant"]
    return next((text for text in reversed(said) if text), str(response.text))


def _models(agent: Any, name: Any) -> list[ModelFacts]:
    provider = _provider(agent)
    if not isinstance(name, str) or not name or provider is None:
        return []
    return [ModelFacts(provider=provider, family=family_of(name), model=name)]


def _provider(agent: Any) -> str | None:
    told = getattr(getattr(agent, "client", None), "OTEL_PROVIDER_NAME", None)
    return told if isinstance(told, str) else None


def _served(response: Any) -> object:
    """The model that the last chat response names; agents that ask no model keep none."""
    raw = response.raw_representation
    for one in reversed(raw if isinstance(raw, list) else [raw]):
        model = getattr(one, "model", None)
        if model:
            return model
    return None
