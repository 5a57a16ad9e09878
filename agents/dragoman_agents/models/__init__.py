"""Models behind one small interface, each adapter importing its SDK only when it is used."""

from __future__ import annotations

from dragoman_agents.models.errors import MODEL_ERROR_KINDS, ModelError, ModelErrorKind
from dragoman_agents.models.openai_compatible import OpenAICompatible
from dragoman_agents.models.port import (
    Attachment,
    Capability,
    Done,
    Event,
    Message,
    ModelAdapter,
    Request,
    Result,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallReady,
    Usage,
)
from dragoman_agents.models.providers import PROVIDERS, Provider, open_adapter
from dragoman_agents.models.secrets import Secret, read_secret
from dragoman_agents.models.settings import ModelSettings, PriceSettings

__all__ = [
    "MODEL_ERROR_KINDS",
    "PROVIDERS",
    "Attachment",
    "Capability",
    "Done",
    "Event",
    "Message",
    "ModelAdapter",
    "ModelError",
    "ModelErrorKind",
    "ModelSettings",
    "OpenAICompatible",
    "PriceSettings",
    "Provider",
    "Request",
    "Result",
    "Secret",
    "TextDelta",
    "Tool",
    "ToolCall",
    "ToolCallReady",
    "Usage",
    "open_adapter",
    "read_secret",
]
