"""Compiled LangGraph graphs: messages in and out, or the graph's own state.

The tokens of every model that a graph asks are counted by a callback, also where they do not show
in its state. A graph with a checkpointer remembers: the conversation is the thread.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from dragoman_agents.models.port import Attachment
from dragoman_agents.wrapping.conversations import Conversations
from dragoman_agents.wrapping.port import Description, Options
from dragoman_agents.wrapping.run import Run
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["GraphDriver"]

ANSWERS = ("ai", "AIMessageChunk")
MESSAGES = "messages"
STRUCTURED = "structured_response"
"""Where ``create_agent`` puts an answer that fits its ``response_format``."""
INTERRUPT = "__interrupt__"


class GraphDriver:
    """Runs one compiled graph."""

    def __init__(self, graph: Any, options: Options) -> None:
        if not hasattr(graph, "astream") or not hasattr(graph, "get_input_jsonschema"):
            raise NotConfigured("a LangGraph graph is compiled before it is wrapped: compile()")
        if options.session is not None:
            raise NotConfigured(
                "a LangGraph graph remembers by its checkpointer: compile(checkpointer=…) "
                "instead of session="
            )
        self._graph = graph
        self._options = options
        # Only the order of turns: what is remembered is the checkpointer's.
        self._turns = Conversations(0)
        self._takes_messages = MESSAGES in _schema(graph, "input").get("properties", {})

    def describe(self) -> Description:
        """See ``Driver.describe``."""
        name = getattr(self._graph, "name", None)
        name = None if name == "LangGraph" else name
        if self._takes_messages:
            return Description(name=name, takes_attachments=True)
        output = {} if self._options.answer is not None else _schema(self._graph, "output")
        return Description(
            name=name,
            input_schema=_schema(self._graph, "input"),
            output_schema=output or None,
        )

    async def run(self, given: Any, run: Run) -> Any:
        """See ``Driver.run``. An interrupt of the graph asks the caller of the task."""
        feed = given
        if self._takes_messages:
            # A repeated attempt replaces its message in the thread, by this id.
            content: Any = given
            if run.attachments:
                content = [*map(_content, run.attachments), {"type": "text", "text": given}]
            feed = {MESSAGES: [{"role": "user", "content": content, "id": run.task_id}]}
        meter = _meter()
        async with self._turns.turn(run.context_id):
            try:
                state = await self._pass(feed, run, meter)
                while questions := state.get(INTERRUPT):
                    state = await self._pass(await _resumed(questions, run), run, meter)
            finally:
                run.used(meter.total())
        run.check_whole(meter.finish, model=meter.provider == "openai")
        run.served(meter.model, meter.provider)
        return self._answer(state)

    async def aclose(self) -> None:
        """Nothing is kept."""

    async def _pass(self, feed: Any, run: Run, meter: Any) -> Mapping[str, Any]:
        """Run until the end, or until the graph asks something; the state then."""
        state: Mapping[str, Any] = {}
        options = dict(self._options.run_options)
        events = self._graph.astream(
            feed,
            _configuration(options.pop("config", None) or {}, run, meter),
            stream_mode=[MESSAGES, "values"] if run.streams else ["values"],
            subgraphs=True,
            **options,
        )
        async with aclosing(events):
            async for space, mode, event in events:
                if mode == MESSAGES:
                    message = event[0]
                    if message.type in ANSWERS:
                        await run.emit(_text(message), message=message.id)
                elif space == ():
                    state = event
                run.used(meter.total())
                run.check_limits()
        return state

    def _answer(self, state: Mapping[str, Any]) -> Any:
        if self._options.answer is not None:
            return self._options.answer(state)
        if not self._takes_messages:
            return state
        structured = state.get(STRUCTURED)
        if structured is not None:
            return structured
        said = [_text(message) for message in state[MESSAGES] if message.type in ANSWERS]
        return said[-1] if said else ""


def _content(attachment: Attachment) -> dict[str, Any]:
    """A picture or file as a standard content block of LangChain."""
    block: dict[str, Any] = {"type": "image" if attachment.is_image else "file"}
    block["mime_type"] = attachment.media_type
    if attachment.data is None:
        block["url"] = attachment.uri
    else:
        block["base64"] = base64.b64encode(attachment.data).decode()
    if attachment.name is not None and not attachment.is_image:
        block["filename"] = attachment.name
    return block


def _configuration(theirs: Mapping[str, Any], run: Run, meter: Any) -> dict[str, Any]:
    configurable = {"thread_id": run.context_id, **theirs.get("configurable", {})}
    callbacks = [*(theirs.get("callbacks") or ()), meter]
    return {**theirs, "configurable": configurable, "callbacks": callbacks}


async def _resumed(questions: Any, run: Run) -> Any:
    """What goes on with the graph: the caller's reply to each of its questions."""
    from langgraph.types import Command

    replies = {question.id: await run.ask(question.value) for question in questions}
    return Command(resume=replies)


def _schema(graph: Any, which: str) -> dict[str, Any]:
    """The schema of the graph's input or output; where pydantic makes none, its members' names.

    Before Python 3.12 it takes the TypedDict of ``typing_extensions`` only, and states may hold
    types that have no JSON form.
    """
    try:
        found: dict[str, Any] = getattr(graph, f"get_{which}_jsonschema")()
    except (TypeError, ValueError, RuntimeError):
        kind = getattr(getattr(graph, "builder", None), f"{which}_schema", None)
        members = list(getattr(kind, "__annotations__", {}))
        return {"type": "object", "properties": {name: {} for name in members}}
    return found


def _text(message: Any) -> str:
    """The text of a message, without thoughts and tool calls."""
    text = message.text
    # A property today, a method before langchain-core 1.0.
    return str(text() if callable(text) and not isinstance(text, str) else text)


def _meter() -> Any:
    """A callback that adds up what the models of one run used; the class needs LangChain's."""
    from langchain_core.callbacks import BaseCallbackHandler

    class Meter(BaseCallbackHandler):  # type: ignore[misc]
        run_inline = True

        def __init__(self) -> None:
            self.model: object = None
            self.provider: object = None
            self.finish: object = None
            self._counts = {"input_tokens": 0, "output_tokens": 0, "calls": 0}
            self._cached = 0
            self._reasoning = 0
            # Nodes that are not coroutines run in threads.
            self._lock = threading.Lock()

        def on_llm_end(self, response: Any, **_: Any) -> None:
            written = [one for several in response.generations for one in several]
            message = getattr(written[0], "message", None) if written else None
            usage = getattr(message, "usage_metadata", None) or {}
            facts = getattr(message, "response_metadata", None) or {}
            with self._lock:
                self.model = facts.get("model_name") or facts.get("model")
                self.provider = facts.get("model_provider")
                self.finish = facts.get("finish_reason") or facts.get("status")
                self._counts["calls"] += 1
                self._counts["input_tokens"] += usage.get("input_tokens", 0)
                self._counts["output_tokens"] += usage.get("output_tokens", 0)
                self._cached += (usage.get("input_token_details") or {}).get("cache_read") or 0
                self._reasoning += (usage.get("output_token_details") or {}).get("reasoning") or 0

        def total(self) -> dict[str, Any]:
            with self._lock:
                return {
                    **self._counts,
                    "cache_read_tokens": self._cached,
                    "output_reasoning_tokens": self._reasoning,
                }

    return Meter()
