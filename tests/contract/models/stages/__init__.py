"""The stages the contract suite runs on: one line per adapter, more where it has several wires."""

from __future__ import annotations

from tests.contract.models.stage import Stage
from tests.contract.models.stages import anthropic, apple, gemini, local, openai

STAGES: tuple[type[Stage], ...] = (
    *openai.STAGES,
    *anthropic.STAGES,
    *gemini.STAGES,
    *apple.STAGES,
    *local.STAGES,
)
