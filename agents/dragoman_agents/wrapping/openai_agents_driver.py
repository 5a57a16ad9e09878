"""Agents of the OpenAI Agents SDK, run to their end by its ``Runner``, handoffs included."""

from __future__ import annotations

import asyncio
from typing import Any

from dragoman_agents.models.port import Attachment
from dragoman_agents.models.settings import family_of, is_openai
from dragoman_agents.wrapping.conversations import Conversation, Conversations
from dragoman_agents.wrapping.port import Description, Options
from dragoman_agents.wrapping.run import Run
from dragoman_agents.wrapping.schemas import schema_of
from dragoman_bus.protocol.errors import RemoteError
from dragoman_bus.protocol.payloads import ModelFacts

__all__ = ["OpenAIAgentsDriver"]


class OpenAIAgentsDriver:
    """Runs one agent of the OpenAI Agents SDK."""

    def __init__(self, agent: Any, options: Options) -> None:
        self._agent = agent
        self._options = options
        self._conversations = Conversations(options.conversations)

    def describe(self) -> Description:
        """See ``Driver.describe``."""
        output = self._agent.output_type
        given = getattr(output, "output_type", None)
        if given is not None:
            output = given
        elif hasattr(output, "json_schema"):
            output = output.json_schema()
        name, provider = _model(self._agent)
        facts = [ModelFacts(provider=provider, family=family_of(name), model=name)] if name else []
        return Description(
            name=self._agent.name,
            words=self._agent.handoff_description,
            output_schema=schema_of(output),
            models=facts,
            takes_attachments=True,
        )

    async def run(self, given: Any, run: Run) -> Any:
        """See ``Driver.run``."""
        async with self._conversations.turn(run.context_id) as conversation:
            feed, options = self._feed(given, conversation, run)
            # What an output guardrail must judge is not shown before it did.
            guarded = _is_guarded(self._agent) or _is_guarded(options.get("run_config"))
            if run.streams and not guarded:
                result = await self._stream(feed, options, run)
            else:
                result = await self._whole(feed, options, run)
            if result.interruptions:
                raise _unanswered(result.interruptions)
            if self._options.conversations and self._options.session is None:
                conversation.memory = result.to_input_list()
        name, provider = _model(result.last_agent)
        run.served(_served(result) or name, provider)
        return result.final_output if self._options.answer is None else self._options.answer(result)

    async def aclose(self) -> None:
        """Forget the conversations."""
        self._conversations.clear()

    def _feed(self, given: str, conversation: Conversation, run: Run) -> tuple[Any, dict[str, Any]]:
        options = dict(self._options.run_options)
        content: Any = given
        if run.attachments:
            content = [*map(_content, run.attachments), {"type": "input_text", "text": given}]
        new = [{"role": "user", "content": content}]
        if self._options.session is not None:
            feed = new if run.attachments else given
            return feed, {**options, "session": self._options.session(run.context_id)}
        return [*(conversation.memory or []), *new], options

    async def _whole(self, feed: Any, options: dict[str, Any], run: Run) -> Any:
        from agents import Runner

        try:
            result = await Runner.run(self._agent, feed, **options)
        except Exception as error:
            told = getattr(error, "run_data", None)
            run.used(None if told is None else told.context_wrapper.usage)
            raise
        run.used(result.context_wrapper.usage)
        return result

    async def _stream(self, feed: Any, options: dict[str, Any], run: Run) -> Any:
        from agents import Runner

        result = Runner.run_streamed(self._agent, feed, **options)
        answers = 0
        try:
            async for event in result.stream_events():
                data = event.data if event.type == "raw_response_event" else None
                kind = getattr(data, "type", None)
                if data is not None and kind == "response.output_text.delta":
                    await run.emit(data.delta, message=answers)
                elif kind == "response.created":
                    answers += 1
                run.used(result.context_wrapper.usage)
                run.check_limits()
        except BaseException:
            await _stopped(result)
            raise
        finally:
            run.used(result.context_wrapper.usage)
        return result


def _content(attachment: Attachment) -> dict[str, Any]:
    """A picture or file as the SDK takes it."""
    if attachment.is_image:
        return {"type": "input_image", "image_url": attachment.address, "detail": "auto"}
    if attachment.data is None:
        return {"type": "input_file", "file_url": attachment.address}
    name = attachment.name or "file"
    return {"type": "input_file", "file_data": attachment.address, "filename": name}


def _is_guarded(holder: Any, seen: tuple[Any, ...] = ()) -> bool:
    """Whether the answer of an agent, or of one that may take over, is judged at the end."""
    if getattr(holder, "output_guardrails", None):
        return True
    followers = [one for one in getattr(holder, "handoffs", ()) if not any(one is s for s in seen)]
    return any(_is_guarded(one, (*seen, holder)) for one in followers)


async def _stopped(result: Any) -> None:
    """End a streamed run, which is a task of its own, together with its connection."""
    result.cancel()
    task = result.run_loop_task
    if task is not None and not task.done():
        await asyncio.wait([task])


def _model(agent: Any) -> tuple[str | None, str]:
    """The id and provider of an agent's model, as far as they are known."""
    model = agent.model
    name = model if isinstance(model, str) else getattr(model, "model", None)
    client = getattr(model, "_client", None)
    if isinstance(model, str) or client is None:
        provider = "openai" if isinstance(model, str) and "/" not in model else "unknown"
    else:
        provider = "openai" if is_openai(str(client.base_url)) else "openai-compatible"
    return (str(name) if name else None), provider


def _served(result: Any) -> str | None:
    """The model as the server named it in the last answer, where the SDK keeps it."""
    for response in reversed(result.raw_responses):
        for item in response.output:
            data = getattr(item, "provider_data", None)
            if isinstance(data, dict) and isinstance(data.get("model"), str):
                return str(data["model"])
    return None


def _unanswered(interruptions: Any) -> RemoteError:
    tools = ", ".join(sorted({str(getattr(item, "name", "a tool")) for item in interruptions}))
    return RemoteError(
        f"the agent waits for the approval of {tools}, which cannot be given over the bus; "
        "wrap an agent whose tools need none",
        code="SKILL_FAILED",
        side_effects="possible",
    )
