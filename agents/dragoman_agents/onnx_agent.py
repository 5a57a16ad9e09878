"""An agent made of an ONNX file: its card and its skills are what the file says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman_agents.agent import Agent
from dragoman_agents.context import Context
from dragoman_agents.models.onnx import OnnxModel, OnnxModelFacts
from dragoman_agents.names import token_of
from dragoman_bus.protocol.payloads import ModelFacts, Usage

__all__ = ["onnx_agent"]

PROVIDER = "onnx"
LONGEST_TEXT = 100_000

INPUT: Mapping[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT}},
    "required": ["text"],
    "additionalProperties": False,
}


def onnx_agent(path: str | Path, *, name: str | None = None, concurrency: int = 4) -> Agent:
    """An agent that classifies or embeds texts with the model in ``path``.

    A model with labels has the skill ``classify`` (``{"label", "confidence", "scores"}``), one
    with vectors the skill ``embed`` (``{"vector"}``, of length 1). They run in threads.

    Args:
        path: The ``.onnx`` file; ``models/onnx.py`` says which metadata it needs.
        name: Instead of the name in the file.
        concurrency: Calls at once.

    Raises:
        NotConfigured: the package or the file is missing, or the file does not say what it does.
    """
    model = OnnxModel(path)
    facts = model.facts
    agent = Agent(
        name or _family(facts),
        description=facts.description,
        version=facts.version,
        concurrency=concurrency,
        models=[
            ModelFacts(
                provider=PROVIDER, family=token_of(facts.name, otherwise=PROVIDER), model=facts.name
            )
        ],
    )
    skills = _Skills(model)
    if facts.classifies is not None:
        agent.add_skill(
            "classify",
            skills.classify,
            description=f"Says which a text is: {', '.join(facts.labels)}",
            tags=["text", "classification"],
            input_schema=dict(INPUT),
            output_schema=_classification_schema(facts.labels),
            text_input="text",
        )
    if facts.embeds is not None:
        agent.add_skill(
            "embed",
            skills.embed,
            description="Gives the vector of a text, of length 1",
            tags=["text", "embedding"],
            input_schema=dict(INPUT),
            output_schema=_embedding_schema(facts.width),
            text_input="text",
        )
    return agent


class _Skills:
    """The skills of one model; without ``async``, so that they run in threads."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    def classify(self, input: Mapping[str, Any], ctx: Context) -> dict[str, Any]:
        found = self._model.classify(input["text"])
        self._report(ctx, found.tokens)
        return {"label": found.label, "confidence": found.confidence, "scores": found.scores}

    def embed(self, input: Mapping[str, Any], ctx: Context) -> dict[str, Any]:
        found = self._model.embed(input["text"])
        self._report(ctx, found.tokens)
        return {"vector": found.vector}

    def _report(self, ctx: Context, tokens: int) -> None:
        facts: OnnxModelFacts = self._model.facts
        ctx.report_usage(Usage(input_tokens=tokens, output_tokens=0, calls=1, source="provider"))
        ctx.served_by(
            provider=PROVIDER, family=token_of(facts.name, otherwise=PROVIDER), model=facts.name
        )


def _classification_schema(labels: tuple[str, ...]) -> dict[str, Any]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    return _object(
        label={"enum": list(labels)},
        confidence=share,
        scores=_object(**dict.fromkeys(labels, share)),
    )


def _embedding_schema(width: int | None) -> dict[str, Any]:
    length = {} if width is None else {"minItems": width, "maxItems": width}
    return _object(vector={"type": "array", "items": {"type": "number"}, **length})


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _family(facts: OnnxModelFacts) -> str:
    return token_of(facts.name, otherwise=PROVIDER)
