"""Plain functions, wrapped: whatever their form, they are skills with the contract they declare."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from dragoman_agents import Agent, Context, serving, wrap
from dragoman_bus import Bus
from dragoman_bus.protocol.a2a import Message, Part, Role, TaskArtifactUpdateEvent
from dragoman_bus.protocol.errors import (
    LocalError,
    NotConfigured,
    TaskCanceled,
    TaskFailed,
    TaskRejected,
)
from dragoman_bus.protocol.payloads import Cost, ModelFacts, Price, Usage
from dragoman_bus.transports.memory import MemoryBroker

pytestmark = pytest.mark.anyio

Serve = Callable[[Agent], Awaitable[Bus]]


class Point(msgspec.Struct):
    x: int
    y: int = 0


@dataclass
class Sum:
    total: int


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:
        broker = MemoryBroker()

        async def start(agent: Agent) -> Bus:
            await stack.enter_async_context(serving(agent, broker.connect(), grace_seconds=1.0))
            return await stack.enter_async_context(Bus(broker.connect()))

        yield start


def shout(text: str) -> str:
    """Turns a text into capitals."""
    return text.upper()


async def whisper(text: str) -> str:
    return text.lower()


def spell(text: str) -> Iterator[str]:
    yield from text


async def spell_slowly(text: str) -> AsyncIterator[str]:
    for letter in text:
        await asyncio.sleep(0)
        yield letter


class Shouter:
    def __init__(self, end: str) -> None:
        self._end = end

    def __call__(self, text: str) -> str:
        return text.upper() + self._end

    async def later(self, text: str) -> str:
        return text.upper() + self._end


def add(text: str, end: str) -> str:
    return text + end


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (shout, "HELLO"),
        (whisper, "hello"),
        (spell, "Hello"),
        (spell_slowly, "Hello"),
        (lambda text: text[::-1], "olleH"),
        (lambda text: asyncio.wait_for(whisper(text), 10), "hello"),
        (Shouter("!"), "HELLO!"),
        (Shouter("!").later, "HELLO!"),
        (functools.partial(add, end="?"), "Hello?"),
    ],
    ids=[
        "function",
        "coroutine function",
        "generator",
        "async generator",
        "lambda",
        "lambda that gives an awaitable",
        "callable object",
        "bound method",
        "partial",
    ],
)
async def test_a_function_from_text_to_text_is_a_skill(
    serve: Serve, target: Callable[..., Any], expected: str
) -> None:
    agent = wrap(target, "helper", skill="help")
    bus = await serve(agent)

    assert (await bus.ask("help", "Hello")).text == expected
    contract = agent.skills["help"].contract
    assert contract.output_schema == {"type": "string"}
    assert contract.text_input == "text"


@pytest.mark.parametrize("target", [spell, spell_slowly], ids=["generator", "async generator"])
async def test_a_generator_streams(serve: Serve, target: Callable[..., Any]) -> None:
    bus = await serve(wrap(target, "helper", skill="help"))
    task = await bus.submit("help", "abc")
    pieces = [u async for u in task if isinstance(u, TaskArtifactUpdateEvent)]

    assert [piece.artifact.parts[0].text for piece in pieces] == ["a", "b", "c"]


async def test_types_are_the_contract(serve: Serve) -> None:
    def move(start: Point, by: int = 1, *, ctx: Context) -> Point:
        assert ctx.task_id
        return Point(start.x + by, start.y)

    agent = wrap(move)
    bus = await serve(agent)

    assert (await bus.ask("move", {"start": {"x": 1}, "by": 4})).value == {"x": 5, "y": 0}
    assert set(agent.skills["move"].contract.input_schema["properties"]) == {"start", "by"}


async def test_what_is_declared_beside_the_signature_counts(serve: Serve) -> None:
    def add_up(text):  # type: ignore[no-untyped-def]
        return Sum(len(text))

    bus = await serve(wrap(add_up, "helper", skill="help", output=Sum))

    assert (await bus.ask("help", "four")).value == {"total": 4}


async def test_name_and_description_are_the_functions_own() -> None:
    agent = wrap(shout)

    assert (agent.name, agent.description) == ("shout", "Turns a text into capitals.")
    assert list(agent.skills) == ["shout"]


async def test_answer_and_usage_are_read_off_what_any_framework_returns(serve: Serve) -> None:
    async def kickoff(text: str) -> Any:
        return SimpleNamespace(
            raw=f"done: {text}",
            token_usage=SimpleNamespace(
                prompt_tokens=9, completion_tokens=5, cached_prompt_tokens=4, successful_requests=2
            ),
        )

    crew = wrap(
        kickoff, "crew", skill="help", answer=lambda r: r.raw, usage=lambda r: r.token_usage
    )
    result = await (await serve(crew)).ask("help", "work")

    assert result.text == "done: work"
    assert result.usage == Usage(
        input_tokens=9, output_tokens=5, cached_input_tokens=4, calls=2, source="provider"
    )


async def test_the_price_of_the_only_model_tells_what_a_task_cost_and_holds_it_to_its_budget(
    serve: Serve,
) -> None:
    facts = ModelFacts(
        provider="test",
        family="tiny",
        model="tiny-1",
        price=Price(
            input_per_million_tokens=2.0,
            output_per_million_tokens=10.0,
            currency="EUR",
            as_of="2026-11-01",
        ),
    )
    used = {"prompt_tokens": 7, "completion_tokens": 2}
    agent = wrap(shout, usage=lambda _: used, models=[facts])
    bus = await serve(agent)
    result = await bus.ask("shout", "x")

    assert result.usage is not None
    assert result.usage.cost == Cost(amount=0.000034, currency="EUR")
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("shout", "x", max_cost=Cost(amount=0.00003, currency="EUR"))
    assert failed.value.code == "LIMIT_EXCEEDED"


async def test_an_object_that_is_not_json_is_not_let_out(serve: Serve) -> None:
    bus = await serve(wrap(lambda text: object(), "helper", skill="help", output={}))
    with pytest.raises(TaskFailed, match="answer=") as failed:
        await bus.ask("help", "x")

    assert failed.value.code == "INVALID_OUTPUT"


async def test_what_a_function_raises_itself_stays_its_own_failure(serve: Serve) -> None:
    def fail(text: str) -> str:
        raise LookupError("no such page")

    bus = await serve(wrap(fail))
    with pytest.raises(TaskFailed, match="LookupError: no such page") as failed:
        await bus.ask("fail", "x")

    assert failed.value.code == "SKILL_FAILED"


async def test_one_of_our_errors_passes_through_a_framework_that_wraps_it(serve: Serve) -> None:
    def fail(text: str) -> str:
        try:
            raise LocalError("no hop remains", code="LIMIT_EXCEEDED")
        except LocalError as error:
            raise RuntimeError("the tool failed") from error

    bus = await serve(wrap(fail))
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("fail", "x")

    assert failed.value.code == "LIMIT_EXCEEDED"


@pytest.mark.parametrize(
    ("status", "headers", "code", "wait"),
    [
        (429, {"Retry-After": "7"}, "MODEL_RATE_LIMITED", 7.0),
        (503, {}, "MODEL_OVERLOADED", None),
        (402, {}, "MODEL_QUOTA", None),
    ],
)
async def test_the_status_of_an_unknown_sdks_exception_says_what_it_means(
    serve: Serve, status: int, headers: dict[str, str], code: str, wait: float | None
) -> None:
    class ApiError(Exception):
        def __init__(self) -> None:
            super().__init__("no")
            self.status_code = status
            self.response = SimpleNamespace(headers=headers)

    def call(text: str) -> str:
        raise ApiError

    bus = await serve(wrap(call))
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("call", "x", retries=0)

    assert (failed.value.code, failed.value.retry_after) == (code, wait)


async def test_a_web_page_that_does_not_exist_is_no_missing_model(serve: Serve) -> None:
    class PageError(Exception):
        code = 404

    def fetch(text: str) -> str:
        raise PageError("no such page")

    bus = await serve(wrap(fetch))
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("fetch", "x")

    assert failed.value.code == "SKILL_FAILED"


async def test_of_several_failures_at_once_the_first_that_says_something_counts(
    serve: Serve,
) -> None:
    class ApiError(Exception):
        status_code = 429

    def call(text: str) -> str:
        raise ExceptionGroup("all models failed", [ValueError("odd"), ApiError("slow")])

    bus = await serve(wrap(call))
    with pytest.raises(TaskFailed) as failed:
        await bus.ask("call", "x", retries=0)

    assert failed.value.code == "MODEL_RATE_LIMITED"


async def test_a_secret_of_the_environment_is_masked_in_errors(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "abcdefgh-12345678")

    class ApiError(Exception):
        status_code = 500

    def call(text: str) -> str:
        raise ApiError("abcdefgh-12345678 is busy")

    bus = await serve(wrap(call))
    with pytest.raises(TaskFailed, match="is busy") as failed:
        await bus.ask("call", "x", retries=0)

    assert "12345678" not in str(failed.value)


async def test_a_canceled_coroutine_is_stopped(serve: Serve) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def wait(text: str) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return text

    bus = await serve(wrap(wait))
    task = await bus.submit("wait", "x")
    await asyncio.wait_for(started.wait(), 10)
    await task.cancel()
    with pytest.raises(TaskCanceled):
        await task.result()

    assert stopped.is_set()


async def test_as_many_blocking_calls_run_at_once_as_the_agent_has_slots(serve: Serve) -> None:
    together = threading.Barrier(3)

    def meet(text: str) -> str:
        together.wait(10)
        return text

    agent = wrap(meet, concurrency=3)
    bus = await serve(agent)
    answers = await asyncio.gather(*(bus.ask("meet", text) for text in "abc"))

    assert [answer.text for answer in answers] == ["a", "b", "c"]
    assert agent.concurrency == 3


async def test_a_wrapped_agent_can_be_served_again(serve: Serve) -> None:
    agent = wrap(shout)
    for _ in range(2):
        broker = MemoryBroker()
        async with serving(agent, broker.connect()), Bus(broker.connect()) as bus:
            assert (await bus.ask("shout", "again")).text == "AGAIN"


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        (Shouter, {}, "is a class"),
        (7, {"name": "seven"}, "wrap a function"),
        (lambda text: text, {}, "has no name"),
        (shout, {"session": str}, "not for a function"),
        (shout, {"run_options": {"deps": 1}}, "not for a function"),
        (shout, {"prompt": "Shout {{text}}"}, "takes its own input"),
        (shout, {"input": list[str]}, "members with names"),
        (lambda *texts: "", {"name": "many"}, "name each input"),
        (lambda text: "", {"name": "Not A Token"}, "lower-case"),
    ],
)
async def test_what_cannot_be_wrapped_is_refused_with_what_to_do(
    target: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(NotConfigured, match=words):
        wrap(target, **options)


def test_no_framework_is_imported_to_wrap_a_function() -> None:
    program = (
        "import sys; from dragoman_agents import wrap; wrap(lambda text: text, 'helper'); "
        "names = ('agents', 'agent_framework', 'langchain_core', 'langgraph', 'openai', "
        "'pydantic', 'pydantic_ai'); "
        "sys.exit(', '.join(name for name in names if name in sys.modules) or None)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=environment,
        timeout=60,
        capture_output=True,
        text=True,
        cwd="/",
    )

    assert (done.returncode, done.stderr.strip()) == (0, "")


async def test_pictures_for_a_function_that_cannot_see_them_are_refused(serve: Serve) -> None:
    def describe(text: str, ctx: Context) -> str:
        return f"{text} {len(ctx.message.parts)}"

    picture = Part(raw="aGVsbG8=", media_type="image/png")
    message = Message(message_id="m", role=Role.USER, parts=[Part(text="What?"), picture])
    bus = await serve(wrap(shout))
    with pytest.raises(TaskRejected, match="shout takes no pictures or files"):
        await bus.ask("shout", message)

    bus = await serve(wrap(describe))
    assert (await bus.ask("describe", message)).value == "What? 2"
