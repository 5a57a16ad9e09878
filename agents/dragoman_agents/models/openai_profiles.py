"""How servers that speak OpenAI's wire differ, as data: one profile per provider name.

What a server is known to do stands here; ``None`` means that it depends on the server's version
or model, and is asked of the server itself (``openai_probe``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = ["PROFILES", "LimitParameter", "Profile"]

LimitParameter: TypeAlias = Literal["max_tokens", "max_completion_tokens"]
"""OpenAI refuses the first for its newer models; most other servers know only the first."""


class Profile(Struct, frozen=True, kw_only=True):
    """What is known of one kind of server.

    Attributes:
        limit_parameter: How Chat Completions spell the output limit there.
        schemas: Whether it enforces JSON Schemas; ``None``: ask it.
        object_schemas: Whether only schemas of objects are enforced; others are told in words.
        strict_schemas: Whether only schemas that strict mode takes are enforced; others are told
            in words.
        tools: Whether its models may call tools.
        seed: Whether it takes a seed; refused or ignored elsewhere.
        explicit_stream: Whether it streams unless told ``"stream": false``.
        refusal: What its HTTP 500 says when a filter declined, where it has no better sign.
    """

    limit_parameter: LimitParameter = "max_tokens"
    schemas: bool | None = None
    object_schemas: bool = True
    strict_schemas: bool = False
    tools: bool = True
    seed: bool = True
    explicit_stream: bool = False
    refusal: re.Pattern[str] | None = None


OPENAI = Profile(limit_parameter="max_completion_tokens", schemas=True, strict_schemas=True)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "openai": OPENAI,
        "azure-openai": OPENAI,
        # Deployments of many makers: each takes the older name, not each enforces schemas.
        "azure-foundry": Profile(),
        "openai-compatible": Profile(object_schemas=False),
        "ollama": Profile(object_schemas=False),
        "llama.cpp": Profile(schemas=True, object_schemas=False),
        "vllm": Profile(schemas=True, object_schemas=False),
        "lm-studio": Profile(),
        "openrouter": Profile(),
        "gemini-compatible": Profile(schemas=True, seed=False),
        "apple-fm-server": Profile(
            schemas=False,
            tools=False,
            seed=False,
            explicit_stream=True,
            refusal=re.compile(r"guardrail|unsafe|refus|sensitive content", re.IGNORECASE),
        ),
    }
)
"""By provider name."""
