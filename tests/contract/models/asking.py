"""Requests that the suite makes, in one place."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from dragoman_agents.models import (
    Done,
    Event,
    Message,
    ModelAdapter,
    ModelError,
    Request,
    Result,
    TextDelta,
)

LABEL: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["label"],
    "additionalProperties": False,
}


def ask(text: str = "Say hello", **members: Any) -> Request:
    """A request of one message; real models are kept short."""
    members.setdefault("max_output_tokens", 32)
    return Request(messages=(Message(role="user", text=text),), **members)


async def events_of(adapter: ModelAdapter, request: Request) -> list[Event]:
    """All events of a streamed call."""
    async with aclosing(adapter.stream(request)) as events:
        return [event async for event in events]


async def result_of(adapter: ModelAdapter, request: Request, *, streamed: bool) -> Result:
    """The whole answer, whichever way it is asked for."""
    if not streamed:
        return await adapter.generate(request)
    last = (await events_of(adapter, request))[-1]
    assert isinstance(last, Done)
    return last.result


async def failure_of(adapter: ModelAdapter, request: Request, *, streamed: bool) -> ModelError:
    """The error of a call that must fail."""
    with pytest.raises(ModelError) as raised:
        await result_of(adapter, request, streamed=streamed)
    return raised.value


def text_of(events: list[Event]) -> str:
    """The streamed text."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))
