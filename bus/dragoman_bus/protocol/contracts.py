"""Contracts of skills, and how typed input and output travel in A2A parts.

Spec: spec/model.md, contracts; spec/model.md, input and output.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw

from dragoman_bus.protocol.a2a import Artifact, Message, Part, Role, text_part
from dragoman_bus.protocol.canonical import digest_of
from dragoman_bus.protocol.errors import InvalidInput
from dragoman_bus.protocol.payloads import Contract

__all__ = [
    "OUTPUT_ARTIFACT",
    "artifact_for_output",
    "input_from_message",
    "is_plain_text",
    "make_contract",
    "message_for_input",
    "output_from_artifact",
    "text_of",
]

OUTPUT_ARTIFACT = "output"
"""The id of the artifact that holds a skill's output."""

JSON_MEDIA_TYPE = "application/json"


def make_contract(
    skill: str,
    input_schema: dict[str, Any],
    output_schema: dict[str, Any],
    *,
    text_input: str | None = None,
    streaming: bool | None = None,
) -> Contract:
    """A contract with its digest; equal schemas give equal digests on every agent."""
    covered: dict[str, Any] = {"inputSchema": input_schema, "outputSchema": output_schema}
    if text_input is not None:
        covered["textInput"] = text_input
    return Contract(
        skill=skill,
        input_schema=input_schema,
        output_schema=output_schema,
        digest=digest_of(covered),
        text_input=UNSET if text_input is None else text_input,
        streaming=UNSET if streaming is None else streaming,
    )


def message_for_input(message_id: str, value: Any) -> Message:
    """A user message that carries a skill's input: text as a text part, all else as data."""
    return Message(message_id=message_id, role=Role.USER, parts=[_part_for(value)])


def artifact_for_output(value: Any) -> Artifact:
    """The output artifact for a skill's result."""
    return Artifact(artifact_id=OUTPUT_ARTIFACT, parts=[_part_for(value)])


def input_from_message(message: Message, text_input: str | None) -> Raw:
    """The JSON document that a skill's input schema judges.

    The one ``data`` part is the input. Text parts, joined by newlines, fill the member named by
    the contract's ``textInput`` unless the data part has it.

    Raises:
        InvalidInput: when there is more than one data part, or text that has no place to go.
    """
    if len(message.parts) == 1 and message.parts[0].data is not UNSET:
        return message.parts[0].data
    data = [part.data for part in message.parts if part.data is not UNSET]
    if len(data) > 1:
        raise InvalidInput("the message has more than one data part; send one")
    text = text_of(message.parts)
    if text is None:
        return data[0] if data else Raw(b"{}")
    if text_input is None:
        raise InvalidInput("this skill takes no plain text; send a data part with its input")
    members = _members(data[0]) if data else {}
    members.setdefault(text_input, text)
    return Raw(msgspec.json.encode(members))


def output_from_artifact(artifact: Artifact) -> Any:
    """The value of an output artifact: its text, or its data (a list when there are several)."""
    if is_plain_text(artifact.parts):
        return artifact.parts[0].text
    values = [
        msgspec.json.decode(part.data)
        for part in artifact.parts
        if not isinstance(part.data, msgspec.UnsetType)
    ]
    if not values:
        return text_of(artifact.parts, separator="") or ""
    return values[0] if len(values) == 1 else values


def is_plain_text(parts: list[Part]) -> bool:
    """Whether there is one part, and it is text."""
    return len(parts) == 1 and parts[0].text is not UNSET


def text_of(parts: list[Part], *, separator: str = "\n") -> str | None:
    """All text of ``parts``, joined; ``None`` when there is no text part."""
    if len(parts) == 1 and isinstance(parts[0].text, str):
        return parts[0].text
    texts = [part.text for part in parts if not isinstance(part.text, msgspec.UnsetType)]
    return separator.join(texts) if texts else None


def _part_for(value: Any) -> Part:
    if isinstance(value, str):
        return text_part(value)
    return Part(data=Raw(msgspec.json.encode(value)), media_type=JSON_MEDIA_TYPE)


def _members(data: Raw) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.ValidationError:
        raise InvalidInput(
            "text and a data part that is not an object cannot be one input"
        ) from None
