"""Tool calls as every wire needs them: arguments as an object, and what their provider keeps there.

Some providers sign their calls, or the thoughts before them, and refuse a conversation in which
the signature is missing. It travels in ``ToolCall.provider_data``, which only the provider that
wrote it reads: a conversation may go on with another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.port import Message, ToolCall

__all__ = ["arguments_of", "keep_data", "kept_data", "tool_names"]


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call that goes back to a model.

    Raises:
        ModelError: ``invalid``: they are no JSON object.
    """
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise ModelError("invalid", f"the arguments of the tool call {call.id} are no JSON object")
    return arguments


def keep_data(provider: str, value: Any) -> str:
    """``value``, any JSON, as ``ToolCall.provider_data`` of ``provider``."""
    return json.dumps({provider: value})


def kept_data(provider: str, call: ToolCall) -> Any:
    """What ``provider`` kept with the call; ``None`` where it is another provider's call."""
    if call.provider_data is None:
        return None
    try:
        return json.loads(call.provider_data).get(provider)
    except (AttributeError, ValueError):
        return None


def tool_names(messages: Iterable[Message]) -> dict[str, str]:
    """The name of the tool behind each call's id."""
    return {call.id: call.name for message in messages for call in message.tool_calls}
