"""The adapter for text generation with onnxruntime-genai, each model in processes of its own.

The library holds Python's interpreter lock while it reads a prompt and computes a token, so in a
thread it would freeze the whole agent; ``worker_pool`` says how that is avoided.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from dragoman_agents.models import onnx_genai_worker
from dragoman_agents.models.adapter import ProviderAdapter
from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.port import (
    Capability,
    Done,
    Event,
    Request,
    Result,
    TextDelta,
    Usage,
)
from dragoman_agents.models.providers import import_sdk, read_options
from dragoman_agents.models.settings import ModelSettings
from dragoman_agents.models.worker_pool import WorkerDied, WorkerPool
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["OnnxGenai", "OnnxGenaiOptions"]

CONFIGURATION = "genai_config.json"


class OnnxGenaiOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model.options]`` of the provider ``onnx-genai``.

    Attributes:
        path: The model's folder: ``genai_config.json``, the ONNX files, the tokenizer.
        slots: Calls computed at once; each is a process with the model in memory.
    """

    path: Annotated[str, Meta(min_length=1)]
    slots: Annotated[int, Meta(ge=1, le=64)] = 1


class OnnxGenai(ProviderAdapter):
    """A model folder for onnxruntime-genai (a ``ModelAdapter``).

    Args:
        settings: ``options.path`` names the folder; ``model`` is what receipts call it.
        environment: Not used: a folder needs no key.

    Raises:
        NotConfigured: the package ``onnxruntime-genai`` is missing, or the folder is not a model.
    """

    def __init__(
        self, settings: ModelSettings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(settings)
        options = read_options(settings.options, OnnxGenaiOptions)
        import_sdk("onnx-genai", "onnxruntime_genai")
        self.path = Path(options.path).expanduser()
        _check_folder(self.path)
        # -P: the worker's folder holds modules named like packages that it imports.
        command = [sys.executable, "-P", str(onnx_genai_worker.__file__), str(self.path)]
        self.pool = WorkerPool(command, options.slots)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Text, streams, and JSON Schema by constrained decoding; no tools."""
        found: set[Capability] = {"text", "stream"}
        if self.settings.structured_output is not False:
            found.add("json_schema")
        return frozenset(found)

    @property
    def where(self) -> str:
        """The folder's name."""
        return self.path.name

    async def aclose(self) -> None:
        """End the model's processes."""
        await self.pool.aclose()

    async def _check_health(self, seconds: float) -> None:
        async with aclosing(self.pool.call({})) as lines:
            async for line in lines:
                _raise_told(line)

    async def _ask(self, request: Request, seconds: float) -> Result:
        async with aclosing(self._open(request, seconds)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.result
        raise AssertionError("what was opened ends with Done or raises")

    async def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        pieces: list[str] = []
        async with aclosing(self.pool.call(_call(request))) as lines:
            async for line in lines:
                _raise_told(line)
                if "text" in line:
                    pieces.append(line["text"])
                    yield TextDelta(line["text"])
                else:
                    yield Done(self._result("".join(pieces), line))

    def _result(self, text: str, line: Mapping[str, Any]) -> Result:
        usage = Usage(
            input_tokens=line["input_tokens"],
            output_tokens=line["output_tokens"],
            source="provider",
        )
        return Result(text=text, finish=line["finish"], model=self.settings.model, usage=usage)

    def _explain(self, error: Exception) -> ModelError:
        if isinstance(error, WorkerDied):
            return ModelError("internal", f"the process of {self.where} died ({error})")
        if isinstance(error, OSError):
            return ModelError("unavailable", f"no process for {self.where}: {error}")
        return ModelError("internal", f"{type(error).__name__}: {error}")


def _call(request: Request) -> dict[str, Any]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    told = [{"role": message.role, "content": message.text} for message in request.messages]
    return {
        "messages": system + told,
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "schema": request.schema,
    }


def _raise_told(line: Mapping[str, Any]) -> None:
    if "error" in line:
        raise ModelError(line["kind"], line["error"])


def _check_folder(path: Path) -> None:
    file = path / CONFIGURATION
    try:
        model = json.loads(file.read_text(encoding="utf-8"))["model"]
        graph = path / str(model["decoder"]["filename"])
    except FileNotFoundError:
        raise NotConfigured(
            f"{path} is not a model for onnxruntime-genai: it has no {CONFIGURATION}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotConfigured(f"{file} cannot be used: {type(error).__name__}: {error}") from None
    for needed in (graph, path / "tokenizer_config.json"):
        if not needed.is_file():
            raise NotConfigured(f"the model in {path} is not whole: {needed.name} is missing")
