"""Text generation with onnxruntime-genai: a model made here that knows pairs of letters."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from dragoman_agents.models import (
    Done,
    Message,
    ModelAdapter,
    ModelError,
    ModelSettings,
    Request,
    TextDelta,
    open_adapter,
)
from dragoman_agents.models.onnx_genai import OnnxGenai
from dragoman_bus.protocol.errors import NotConfigured
from examples.local_models.tiny_generator import write_tiny_generator
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

CONTEXT = 50_000
VERDICT = {
    "type": "object",
    "properties": {"label": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


def ask(text: str = "The ship", **rest: Any) -> Request:
    rest = {"max_output_tokens": 40} | rest
    return Request(messages=(Message(role="user", text=text),), **rest)


def opened(folder: Path, **options: Any) -> OnnxGenai:
    options["path"] = str(folder)
    adapter: ModelAdapter = open_adapter(
        ModelSettings(provider="onnx-genai", model="pairs", options=options)
    )
    assert isinstance(adapter, OnnxGenai)
    return adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_generator(tmp_path_factory.mktemp("genai"), context=CONTEXT)


@pytest.fixture
async def model(folder: Path) -> AsyncIterator[OnnxGenai]:
    async with aclosing(opened(folder)) as adapter:
        yield adapter


async def test_it_writes_what_it_has_learned_and_counts_its_tokens(model: OnnxGenai) -> None:
    await model.health()
    result = await model.generate(ask(temperature=0.0))
    assert "the the the" in result.text
    assert (result.finish, result.model) == ("length", "pairs")
    assert result.usage.input_tokens == len("The ship ")
    assert result.usage.output_tokens == 40


async def test_it_streams_and_a_seed_repeats_the_answer(model: OnnxGenai) -> None:
    request = ask(temperature=1.0, seed=7)
    events = [event async for event in model.stream(request)]
    done = events[-1]
    assert isinstance(done, Done)
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert len(texts) > 20
    assert "".join(texts) == done.result.text == (await model.generate(request)).text
    assert (await model.generate(ask(temperature=1.0, seed=8))).text != done.result.text


async def test_a_schema_constrains_what_it_writes(model: OnnxGenai) -> None:
    result = await model.generate(ask("Is it?", schema=VERDICT, max_output_tokens=200))
    assert result.schema_mode == "native"
    assert result.data.keys() == {"label", "sure"}
    assert result.finish == "stop"


async def test_a_schema_that_is_none_is_the_requests_fault(model: OnnxGenai) -> None:
    with pytest.raises(ModelError, match="frog") as failed:
        await model.generate(ask(schema={"type": "frog"}))
    assert failed.value.kind == "invalid"


async def test_a_prompt_longer_than_the_context_is_said_to_be(model: OnnxGenai) -> None:
    with pytest.raises(ModelError, match=str(CONTEXT)) as failed:
        await model.generate(ask("x" * CONTEXT))
    assert failed.value.kind == "context_length"


async def test_the_event_loop_runs_on_while_it_computes(model: OnnxGenai) -> None:
    await model.health()
    call = asyncio.create_task(model.generate(ask("x" * 40_000, max_output_tokens=400)))
    longest, last = 0.0, time.monotonic()
    while not call.done():
        await asyncio.sleep(0)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert (await call).usage.output_tokens == 400
    assert longest < 1.0


@pytest.mark.parametrize("way", ["cancel", "deadline", "leave"])
async def test_a_call_that_nobody_waits_for_stops_and_its_process_stays(
    model: OnnxGenai, way: str
) -> None:
    await model.health()
    before = model.pool.processes
    endless = ask(max_output_tokens=CONTEXT)
    if way == "deadline":
        with pytest.raises(ModelError) as failed:
            await model.generate(
                Request(messages=endless.messages, deadline=time.monotonic() + 0.05)
            )
        assert failed.value.kind == "timeout"
    elif way == "leave":
        async with aclosing(model.stream(endless)) as events:
            await anext(events)
    else:
        call = asyncio.create_task(model.generate(endless))
        await eventually(lambda: model.pool.busy == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await eventually(lambda: model.pool.busy == 0)
    assert (await model.generate(ask(max_output_tokens=3))).usage.output_tokens == 3
    assert model.pool.processes == before


async def test_as_many_calls_run_at_once_as_it_has_processes(folder: Path) -> None:
    async with aclosing(opened(folder, slots=2)) as model:
        results = await asyncio.gather(*(model.generate(ask(f"call {n}")) for n in range(6)))
        assert len(model.pool.processes) == 2
    assert all(result.usage.output_tokens == 40 for result in results)


async def test_a_process_that_dies_fails_one_call_and_is_replaced(model: OnnxGenai) -> None:
    async with aclosing(model.stream(ask(max_output_tokens=CONTEXT))) as events:
        await anext(events)
        (process,) = model.pool.processes
        os.kill(process, signal.SIGKILL)
        with pytest.raises(ModelError, match="signal 9") as failed:
            async for _ in events:
                pass
    assert failed.value.retryable
    assert (await model.generate(ask())).text
    assert process not in model.pool.processes


async def test_closing_ends_the_processes(folder: Path) -> None:
    model = opened(folder)
    await model.health()
    (process,) = model.pool.processes
    await model.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_a_folder_without_a_model_is_explained(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match=r"no genai_config.json"):
        opened(tmp_path)
    (tmp_path / "genai_config.json").write_text("{")
    with pytest.raises(NotConfigured, match="cannot be used"):
        opened(tmp_path)
    (tmp_path / "genai_config.json").write_bytes((folder / "genai_config.json").read_bytes())
    with pytest.raises(NotConfigured, match=r"model.onnx is missing"):
        opened(tmp_path)
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    async with aclosing(opened(tmp_path)) as broken:
        with pytest.raises(ModelError) as failed:
            await broken.health()
    assert failed.value.kind == "unavailable"


def test_an_unknown_option_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="known are: path, slots"):
        opened(folder, layers=3)
