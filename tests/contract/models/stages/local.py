"""Stages for models that compute here: real inference on tiny models, so nothing is scripted."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from dragoman_agents.models import Event, ModelSettings, Request, open_adapter
from dragoman_agents.models.adapter import ProviderAdapter
from examples.local_models.tiny_generator import write_tiny_generator
from examples.local_models.tiny_llama import write_tiny_llama
from tests.contract.models.stage import Scenario, Stage

REAL: Mapping[Scenario, str] = {
    "headers": "nothing travels: the model is in this machine",
    "schema_repair": "a schema constrains every token, so nothing needs repair",
    "tools": "the tiny model's chat template knows none",
    "tool_result": "without tools there is no answer of a tool",
    "image": "the model reads text only",
    "file": "the model reads text only",
    "usage": "a real model counts for itself; its own tests look at the counts",
    "usage_unknown": "a real model always counts",
    "served_model": "the file is the model",
    "rate_limited": "nobody limits calls here; they wait for a slot",
    "overloaded": "nobody refuses calls here; they wait for a slot",
    "auth": "a file needs no key",
    "quota": "a file costs nothing",
    "invalid": "cannot be scripted; its own tests send a schema that is none",
    "context_length": "cannot be scripted; its own tests send a prompt that is too long",
    "unavailable": "cannot be scripted; its own tests open missing and broken files",
    "refused": "random weights refuse nothing",
    "unreachable": "there is no server to lose; its own tests close it and kill its process",
    "malformed": "there is no foreign wire format",
    "cut_off": "there is no connection to lose",
    "stall": "it never stalls; its own tests let long work meet its deadline",
    "cancellation": "cannot be scripted; its own tests cancel long work and see it stop",
    "no_secret": "a file needs no key",
}


class LocalStage(Stage):
    """A model file made for the test."""

    left_out = REAL
    is_scripted = False

    def write(self, folder: Path) -> Mapping[str, Any]:
        """Make the model in ``folder``; returns the provider's options."""
        raise NotImplementedError

    async def __aenter__(self) -> Stage:
        self.stalling, self.client_gone = asyncio.Event(), asyncio.Event()
        self.asked: list[Request] = []
        self.folder = tempfile.TemporaryDirectory()
        settings = ModelSettings(
            provider=self.name, model=self.MODEL, options=dict(self.write(Path(self.folder.name)))
        )
        adapter = open_adapter(settings)
        assert isinstance(adapter, ProviderAdapter)
        self._watch(adapter)
        self.adapter = adapter
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.adapter.aclose()
        self.folder.cleanup()

    def play(self, *acts: Any) -> None:
        """A real model says what it likes."""

    @property
    def calls(self) -> int:
        return len(self.asked)

    async def close_server(self) -> None:
        raise NotImplementedError

    def _watch(self, adapter: ProviderAdapter) -> None:
        opened = adapter._open

        async def watched(request: Request, seconds: float) -> AsyncGenerator[Event, None]:
            self.asked.append(request)
            async for event in opened(request, seconds):
                yield event

        adapter._open = watched  # type: ignore[method-assign]


class LlamaStage(LocalStage):
    """The adapter ``llama``."""

    name = "llama"
    left_out: ClassVar[Mapping[Scenario, str]] = {
        **REAL,
        "system": "there is no wire to look at; random weights do not show what they read",
    }

    def write(self, folder: Path) -> Mapping[str, Any]:
        path = write_tiny_llama(folder / "tiny.gguf")
        return {"path": str(path), "threads": 1, "trial": False}


class OnnxGenaiStage(LocalStage):
    """The adapter ``onnx-genai``."""

    name = "onnx-genai"
    left_out: ClassVar[Mapping[Scenario, str]] = {
        **REAL,
        "system": "there is no wire to look at; a table of pairs does not show what it read",
    }

    def write(self, folder: Path) -> Mapping[str, Any]:
        return {"path": str(write_tiny_generator(folder / "pairs"))}


STAGES: tuple[type[Stage], ...] = (LlamaStage, OnnxGenaiStage)
