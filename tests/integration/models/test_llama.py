"""A Llama model in this process: real inference on a tiny file made here, with random weights."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from dragoman_agents.models import (
    Done,
    Message,
    ModelError,
    ModelSettings,
    Request,
    TextDelta,
    Tool,
)
from dragoman_agents.models.llama import Llama
from dragoman_bus.protocol.errors import NotConfigured
from examples.local_models.tiny_llama import write_tiny_llama
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

LONG_CONTEXT = 16_384
VERDICT = {
    "type": "object",
    "properties": {"label": {"enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


def ask(text: str = "Hi", **rest: Any) -> Request:
    return Request(messages=(Message(role="user", text=text),), **rest)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    return write_tiny_llama(folder / "tiny.gguf", context=LONG_CONTEXT)


def settings(path: Path, context: int | None = None, **rest: Any) -> ModelSettings:
    options = {"path": str(path), "threads": 1, "trial": False} | rest
    return ModelSettings(
        provider="llama", model="tiny-llama", context_window=context, options=options
    )


@pytest.fixture
async def llama(model_file: Path) -> AsyncIterator[Llama]:
    async with aclosing(Llama(settings(model_file, context=512))) as opened:
        yield opened


async def test_it_answers_and_counts_its_tokens(llama: Llama) -> None:
    await llama.health()
    result = await llama.generate(ask(max_output_tokens=5, temperature=0.0))
    assert result.finish == "length"
    assert result.text
    assert result.model == "tiny-llama"
    assert (result.usage.output_tokens, result.usage.source) == (5, "provider")
    assert result.usage.input_tokens is not None
    assert result.usage.input_tokens > len("Hi")


async def test_the_same_question_without_chance_has_the_same_answer(llama: Llama) -> None:
    first = await llama.generate(ask(max_output_tokens=12, temperature=0.0))
    second = await llama.generate(ask(max_output_tokens=12, temperature=0.0))
    assert first.text == second.text
    assert second.usage.cached_input_tokens


async def test_a_schema_constrains_even_random_weights(llama: Llama) -> None:
    result = await llama.generate(ask("Is it?", schema=VERDICT, temperature=0.0))
    assert result.schema_mode == "native"
    assert result.data["label"] in ("yes", "no")
    assert isinstance(result.data["sure"], bool)
    assert result.data.keys() == {"label", "sure"}


async def test_it_streams_token_by_token(llama: Llama) -> None:
    events = [event async for event in llama.stream(ask(max_output_tokens=12, temperature=0.0))]
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    done = events[-1]
    assert isinstance(done, Done)
    assert len(texts) > 2
    assert "".join(texts) == done.result.text


async def test_many_calls_at_once_are_all_answered(llama: Llama) -> None:
    asked = [llama.generate(ask(f"call {n}", max_output_tokens=8)) for n in range(16)]
    results = await asyncio.gather(*asked)
    assert all(result.usage.output_tokens for result in results)


async def test_a_prompt_longer_than_the_context_is_said_to_be(llama: Llama) -> None:
    with pytest.raises(ModelError, match="512 tokens") as failed:
        await llama.generate(ask("word " * 200))
    assert failed.value.kind == "context_length"
    assert not failed.value.retryable


async def test_a_schema_that_is_none_is_the_requests_fault(llama: Llama) -> None:
    with pytest.raises(ModelError, match="frog") as failed:
        await llama.generate(ask(schema={"type": "frog"}))
    assert failed.value.kind == "invalid"


async def test_tools_are_refused_when_the_chat_template_has_no_place_for_them(llama: Llama) -> None:
    tool = Tool(name="look", description="Looks", parameters={"type": "object"})
    assert "tools" not in llama.capabilities
    with pytest.raises(ModelError, match="takes no tools") as failed:
        await llama.generate(ask(tools=(tool,)))
    assert failed.value.kind == "invalid"


async def test_a_chat_template_with_tools_makes_them_a_capability(
    tmp_path: Path,
) -> None:
    template = "{% for tool in tools %}{{ tool }}{% endfor %}{{ messages[0]['content'] }}"
    path = write_tiny_llama(tmp_path / "tools.gguf", template=template)
    async with aclosing(Llama(settings(path))) as llama:
        assert "tools" in llama.capabilities


@pytest.fixture
async def slow(model_file: Path) -> AsyncIterator[Llama]:
    """Room for a prompt that takes seconds, and one slot."""
    async with aclosing(Llama(settings(model_file, slots=1, context=LONG_CONTEXT))) as opened:
        yield opened


LONG_PROMPT = "Hallo " * 1300


async def test_canceling_stops_the_work_on_a_long_prompt(slow: Llama) -> None:
    call = asyncio.create_task(slow.generate(ask(LONG_PROMPT, max_output_tokens=1)))
    await eventually(lambda: slow.running == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    before = time.monotonic()
    await slow.generate(ask(max_output_tokens=1))
    freed = time.monotonic() - before
    before = time.monotonic()
    await slow.generate(ask("Salve " * 1300, max_output_tokens=1))
    assert freed < (time.monotonic() - before) / 2


async def test_leaving_a_stream_stops_the_work(slow: Llama) -> None:
    endless = ask(max_output_tokens=LONG_CONTEXT, temperature=0.0)
    async with aclosing(slow.stream(endless)) as events:
        await anext(events)
        assert slow.running == 1
    await eventually(lambda: slow.running == 0)


async def test_the_deadline_ends_a_call_and_its_work(slow: Llama) -> None:
    with pytest.raises(ModelError) as failed:
        await slow.generate(ask(LONG_PROMPT, deadline=time.monotonic() + 0.05))
    assert failed.value.kind == "timeout"
    assert failed.value.retryable
    await eventually(lambda: slow.running == 0)


async def test_a_call_that_waits_for_a_slot_can_be_canceled(slow: Llama) -> None:
    first = asyncio.create_task(slow.generate(ask(LONG_PROMPT, max_output_tokens=1)))
    await eventually(lambda: slow.running == 1)
    with pytest.raises(ModelError) as failed:
        await slow.generate(ask(deadline=time.monotonic() + 0.05))
    assert failed.value.kind == "timeout"
    assert not first.done()
    first.cancel()
    await asyncio.wait([first])


async def test_closing_stops_running_calls_and_refuses_new_ones(slow: Llama) -> None:
    call = asyncio.create_task(slow.generate(ask(LONG_PROMPT)))
    await eventually(lambda: slow.running == 1)
    await slow.aclose()
    with pytest.raises(ModelError) as failed:
        await call
    assert failed.value.kind == "unreachable"
    with pytest.raises(ModelError, match="closed"):
        await slow.health()
    with pytest.raises(ModelError, match="closed"):
        await slow.generate(ask())


async def test_one_that_was_never_asked_can_be_closed(model_file: Path) -> None:
    llama = Llama(settings(model_file, context=64))
    await asyncio.wait_for(llama.aclose(), 10)


async def test_the_port_that_the_library_opens_answers_nobody(llama: Llama) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", llama.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    assert b" 401 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="there is no model file .*gone.gguf"):
        Llama(settings(tmp_path / "gone.gguf"))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda content: b"", "does not begin with GGUF"),
        (lambda content: b"PK\3\4 a zip file", "does not begin with GGUF"),
        (lambda content: content[:300], "cut off"),
        (lambda content: content[:100_000], "cut off"),
        (lambda content: content[:4] + struct.pack("<I", 99) + content[8:], "version is 99"),
        (lambda content: patched(content, "llama.block_count", 0), "0 layers"),
        (lambda content: patched(content, "llama.context_length", 0), "context of 0"),
        (lambda content: patched(content, "llama.context_length", 2**32 - 1), "context of 4294"),
    ],
)
def test_a_bad_header_is_explained_before_the_library_sees_it(
    model_file: Path, tmp_path: Path, broken: Any, reason: str
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(broken(model_file.read_bytes()))
    with pytest.raises(NotConfigured, match=reason):
        Llama(settings(bad))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        # Aborts the process that loads it.
        (lambda content: patched(content, "llama.block_count", 900), "n_layer"),
        (lambda content: content.replace(b"blk.1.attn_q", b"blk.1.attn_x"), "blk.1.attn_q"),
    ],
)
def test_a_file_that_the_library_dies_of_costs_only_a_trial(
    model_file: Path, tmp_path: Path, broken: Any, reason: str
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(broken(model_file.read_bytes()))
    with pytest.raises(NotConfigured, match=reason):
        Llama(settings(bad, trial=True))


async def test_a_good_file_passes_the_trial(model_file: Path) -> None:
    async with aclosing(Llama(settings(model_file, trial=True, context=64))) as llama:
        await llama.health()


def patched(content: bytes, key: str, value: int) -> bytes:
    """The file with another number under ``key``."""
    start = content.index(key.encode()) + len(key) + 4
    return content[:start] + struct.pack("<I", value) + content[start + 4 :]
