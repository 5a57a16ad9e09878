"""Asks an OpenAI-compatible server what it really supports: its models, and whether schemas bind.

A server may refuse a schema, enforce it, or take it and ignore it; documentation does not tell
for the version and model at hand. One short call does, and its answer is kept by the adapter.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = ["ServerFacts", "enforces", "schema_question"]

TOKENS = 8
"""Enough for the first brace and little more to pay."""


class ServerFacts(Struct, frozen=True, kw_only=True):
    """What a server was found to support.

    Attributes:
        models: The ids it lists; ``None`` where it has no list.
        schemas: Whether it enforces JSON Schemas.
    """

    models: tuple[str, ...] | None
    schemas: bool


def schema_question() -> dict[str, Any]:
    """Arguments of a Chat Completions call whose answer shows whether a schema binds.

    The question asks for words, so that only a schema in force makes the answer begin with a
    brace.
    """
    schema = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["yes"]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    return {
        "messages": [{"role": "user", "content": "Say hello."}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        },
    }


def enforces(text: str) -> bool:
    """Whether the answer's beginning shows a schema in force; an empty one disproves nothing."""
    beginning = text.lstrip()
    return not beginning or beginning.startswith("{")
