"""Pydantic AI agents: text or typed output, streamed from every step of the run.

``run`` with a handler of events goes to the end of the run; ``run_stream`` would stop at the first
text that could be the answer, before the tools that the model asks for along with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

from dragoman_agents.models.port import Attachment
from dragoman_agents.models.settings import family_of
from dragoman_agents.wrapping.conversations import Conversations
from dragoman_agents.wrapping.port import Description, Options
from dragoman_agents.wrapping.run import Run
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.protocol.payloads import ModelFacts

__all__ = ["PydanticAIDriver"]


class PydanticAIDriver:
    """Runs one Pydantic AI agent."""

    def __init__(self, agent: Any, options: Options) -> None:
        if options.session is not None:
            raise NotConfigured("Pydantic AI has no sessions: leave session= out")
        self._agent = agent
        self._options = options
        self._conversations = Conversations(options.conversations)

    def describe(self) -> Description:
        """See ``Driver.describe``."""
        schema = self._agent.output_json_schema()
        return Description(
            name=self._agent.name,
            words=_words(self._agent),
            output_schema=None if schema == {"type": "string"} else schema,
            models=_models(self._agent.model),
            takes_attachments=True,
        )

    async def run(self, given: Any, run: Run) -> Any:
        """See ``Driver.run``."""
        from pydantic_ai.usage import RunUsage, UsageLimits

        options = dict(self._options.run_options)
        left = run.ctx.remaining_tokens
        if left is not None:
            options.setdefault("usage_limits", UsageLimits(total_tokens_limit=left))
        used = RunUsage()
        async with self._conversations.turn(run.context_id) as conversation:
            try:
                result = await self._agent.run(
                    [*map(_content, run.attachments), given] if run.attachments else given,
                    message_history=conversation.memory,
                    usage=used,
                    event_stream_handler=_Pieces(run) if run.streams else None,
                    **options,
                )
            finally:
                run.used(used)
            response = result.response
            # OpenAI's own word: the framework takes a stream without one as finished.
            finish = (response.provider_details or {}).get("finish_reason")
            run.check_whole(finish, model=response.provider_name == "openai")
            if self._options.conversations:
                conversation.memory = result.all_messages()
        run.served(response.model_name, response.provider_name)
        return result.output if self._options.answer is None else self._options.answer(result)

    async def aclose(self) -> None:
        """Forget the conversations."""
        self._conversations.clear()


class _Pieces:
    """Streams the text of each step; called by the framework, once per step."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._steps = 0

    async def __call__(self, _: Any, events: AsyncIterable[Any]) -> None:
        self._steps += 1
        step = self._steps
        async for event in events:
            if event.event_kind == "part_start" and event.part.part_kind == "text":
                await self._run.emit(event.part.content, message=step)
            elif event.event_kind == "part_delta" and event.delta.part_delta_kind == "text":
                await self._run.emit(event.delta.content_delta, message=step)


def _content(attachment: Attachment) -> Any:
    """A picture or file as the framework takes it."""
    from pydantic_ai import BinaryContent, DocumentUrl, ImageUrl

    if attachment.data is not None:
        return BinaryContent(data=attachment.data, media_type=attachment.media_type)
    kind = ImageUrl if attachment.is_image else DocumentUrl
    return kind(url=attachment.uri or "", media_type=attachment.media_type)


def _words(agent: Any) -> str | None:
    words = getattr(agent, "description", None)
    return words if isinstance(words, str) else None


def _models(model: Any) -> list[ModelFacts]:
    """The model that the agent was made with: an object, or text such as ``openai:ID``."""
    name, provider = getattr(model, "model_name", None), getattr(model, "system", None)
    if isinstance(model, str):
        provider, _, name = model.rpartition(":")
    if not isinstance(name, str) or not isinstance(provider, str) or not name or not provider:
        return []
    return [ModelFacts(provider=provider, family=family_of(name), model=name)]
