"""A stage: one adapter in front of a local fake of its provider, or of a real local model.

A new adapter subclasses ``Stage`` in ``stages/`` and adds one line to ``stages/__init__.py``.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from dragoman_agents.models import ModelAdapter

Scenario: TypeAlias = Literal[
    "answer",
    "stream",
    "system",
    "limits",
    "headers",
    "schema",
    "schema_repair",
    "tools",
    "tool_result",
    "image",
    "file",
    "usage",
    "usage_unknown",
    "served_model",
    "rate_limited",
    "overloaded",
    "auth",
    "quota",
    "invalid",
    "context_length",
    "unavailable",
    "refused",
    "unreachable",
    "malformed",
    "cut_off",
    "stall",
    "cancellation",
    "deadline",
    "no_secret",
    "health",
]
"""What the suite asks of every adapter."""


class Stage(ABC):
    """Enter with ``async with``.

    Attributes:
        name: In the tests' ids: the provider, with what distinguishes this stage.
        left_out: The scenarios that do not apply, each with the reason.
        is_scripted: Whether ``play`` decides what is answered; a real model says what it likes.
        KEY: The key the adapter is given, where it takes one.
        MODEL: The model id it is configured with.
    """

    name: ClassVar[str]
    left_out: ClassVar[Mapping[Scenario, str]] = {}
    is_scripted: ClassVar[bool] = True
    KEY: ClassVar[str] = "sk-contract-4f9a8c7b6d5e4f3a2b1c"
    MODEL: ClassVar[str] = "contract-model-1"

    adapter: ModelAdapter
    stalling: asyncio.Event
    """Set when a ``Stall`` act is being played."""
    client_gone: asyncio.Event
    """Set when the client of a ``Stall`` act has closed its connection."""

    @abstractmethod
    async def __aenter__(self) -> Stage:
        """Start the fake, open the adapter."""

    @abstractmethod
    async def __aexit__(self, *error: object) -> None:
        """Close the adapter, stop the fake."""

    @abstractmethod
    def play(self, *acts: Any) -> None:
        """Append to what the next calls get (``acts.Act``); whole or streamed as they are asked."""

    @property
    @abstractmethod
    def calls(self) -> int:
        """How often the model was asked; probes and lists of models do not count."""

    @abstractmethod
    async def close_server(self) -> None:
        """From now on nothing listens (scenario ``unreachable``)."""

    def sent(self) -> Any:
        """The last call's decoded body, for ``expectations``; ``None`` where there is no wire."""
        return None

    def sent_headers(self) -> Mapping[str, str]:
        """The last call's headers, names in lower case."""
        return {}
