"""What the bus adds to a call of a model: SDK, adapter and bus in turns, in one run on one machine.

All ask the same fake server in OpenAI's wire format, which answers at once, in a process of its
own (uvicorn on uvloop with httptools). "openai SDK" calls it from this process with a client that
is kept. "adapter" is Dragoman's adapter on that SDK, without the bus. "bus" is a task to an agent
in another process, through a real nats-server, whose adapter makes the same call; input and output
are validated at both ends and the receipt counts tokens. Answers are whole, or streams of 20
tokens sent without a pause, which is the worst case for whoever passes them on.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.measuring import (
    Ask,
    Figures,
    Peer,
    alternate,
    install_loop,
    keep,
    latencies,
    machine,
    own_cpu,
    parser,
    percentile,
    process_cpu,
    rate,
    ready,
    report,
)
from dragoman_bus.server import NatsServer

IN_FLIGHT = 16
TOKENS = [f"token{number} " for number in range(20)]
TEXT = "".join(TOKENS)
PROMPT = "Answer with twenty tokens."
MODEL = "fake-1"
SIDES = {"sdk": "openai SDK", "adapter": "adapter", "bus": "bus"}
ADDED = "whole answer, p50 ms"
ADDED_GOAL = "<= 2 ms"
FIRST, LAST = "first token, p50 ms", "last token, p50 ms"

Stream = Callable[[], Awaitable[float]]


# -- the fake model ---------------------------------------------------------------------------


def _event(delta: dict[str, Any] | None, **rest: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    kind = "chat.completion.chunk"
    base = {"id": "chat-1", "object": kind, "created": 1, "model": MODEL, "choices": choices}
    return b"data: " + json.dumps(base | rest).encode() + b"\n\n"


USAGE = {"prompt_tokens": 6, "completion_tokens": 20, "total_tokens": 26}
WHOLE = json.dumps(
    {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
).encode()
LAST_CHOICE = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
EVENTS = [
    *(_event({"content": token}) for token in TOKENS),
    _event(None, choices=LAST_CHOICE),
    _event(None, usage=USAGE),
    b"data: [DONE]\n\n",
]


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """The fake model as an ASGI application."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        part = await receive()
        body += part.get("body", b"")
        more = part.get("more_body", False)
    streams = json.loads(body).get("stream", False)
    kind = b"text/event-stream" if streams else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for piece in EVENTS if streams else [WHOLE]:
        await send({"type": "http.response.body", "body": piece, "more_body": streams})
    if streams:
        await send({"type": "http.response.body", "body": b""})


async def serve_model() -> None:
    """Serve the fake model."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        answer,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        log_level="error",
        access_log=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    ready(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
    await serving


# -- the agent --------------------------------------------------------------------------------


def adapter_for(address: str) -> Any:
    """The adapter that agents are given."""
    from dragoman_agents.models import ModelSettings, open_adapter

    return open_adapter(ModelSettings(model=MODEL, base_url=address))


def request() -> Any:
    """What adapters are asked."""
    from dragoman_agents.models import Message, Request

    return Request(messages=(Message(role="user", text=PROMPT),))


async def serve_agent(url: str, address: str) -> None:
    """One skill that waits for the whole answer, one that streams it."""
    from dragoman_agents import Agent, Context, serving
    from dragoman_agents.models import Done, TextDelta
    from dragoman_agents.models.pricing import task_usage
    from dragoman_bus.transports.nats import connect_nats

    agent = Agent("bench", concurrency=128)
    adapter = adapter_for(address)

    @agent.skill
    async def whole(text: str, ctx: Context) -> str:
        result = await adapter.generate(request())
        ctx.report_usage(task_usage(result.usage, None))
        return str(result.text)

    @agent.skill
    async def streamed(text: str, ctx: Context) -> str:
        answer = ""
        async for event in adapter.stream(request()):
            if isinstance(event, TextDelta):
                await ctx.emit(event.text)
            elif isinstance(event, Done):
                ctx.report_usage(task_usage(event.result.usage, None))
                answer = event.result.text
        return answer

    async with serving(agent, await connect_nats(url)):
        ready()
        await asyncio.Event().wait()


# -- the callers ------------------------------------------------------------------------------


def sdk_side(client: Any) -> tuple[Ask, Stream]:
    """The SDK as its documentation has it."""
    messages = [{"role": "user", "content": PROMPT}]

    async def ask() -> None:
        completion = await client.chat.completions.create(model=MODEL, messages=messages)
        assert completion.choices[0].message.content == TEXT

    async def stream() -> float:
        started, first, text = time.perf_counter(), 0.0, ""
        async for chunk in await client.chat.completions.create(
            model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
        ):
            if chunk.choices and chunk.choices[0].delta.content:
                first = first or time.perf_counter() - started
                text += chunk.choices[0].delta.content
        assert text == TEXT
        return first * 1000

    return ask, stream


def adapter_side(adapter: Any) -> tuple[Ask, Stream]:
    """Dragoman's adapter, without the bus."""
    from dragoman_agents.models import TextDelta

    async def ask() -> None:
        assert (await adapter.generate(request())).text == TEXT

    async def stream() -> float:
        started, first, text = time.perf_counter(), 0.0, ""
        async for event in adapter.stream(request()):
            if isinstance(event, TextDelta):
                first = first or time.perf_counter() - started
                text += event.text
        assert text == TEXT
        return first * 1000

    return ask, stream


def bus_side(bus: Any) -> tuple[Ask, Stream]:
    """A task to an agent that has the adapter."""
    from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent

    async def ask() -> None:
        assert (await bus.ask("whole", PROMPT)).text == TEXT

    async def stream() -> float:
        started, first = time.perf_counter(), 0.0
        task = await bus.submit("streamed", PROMPT)
        async for update in task:
            if isinstance(update, TaskArtifactUpdateEvent):
                first = first or time.perf_counter() - started
        assert (await task.result()).text == TEXT
        return first * 1000

    return ask, stream


async def measure(ask: Ask, stream: Stream, others: list[int], count: int) -> Figures:
    """One round of one side."""
    taken = await latencies(ask, count)
    figures = {ADDED: percentile(taken, 0.5), "whole answer, p99 ms": percentile(taken, 0.99)}
    firsts: list[float] = []

    async def streamed() -> None:
        firsts.append(await stream())

    lasts = await latencies(streamed, count)
    figures[FIRST] = percentile(sorted(firsts), 0.5)
    figures[LAST] = percentile(lasts, 0.5)
    before = own_cpu() + sum(map(process_cpu, others))
    figures[f"per second, {IN_FLIGHT} in flight"] = await rate(ask, count, IN_FLIGHT)
    used = own_cpu() + sum(map(process_cpu, others)) - before
    figures["CPU us, without the model"] = used / count * 1e6
    return figures


async def compare(server: NatsServer, rounds: int, count: int) -> dict[str, Figures]:
    """All rounds of all sides; the median of each figure."""
    import openai

    from dragoman_bus import connect

    with Peer("benchmarks.model_call", "--serve", "model") as model:
        address = model.told[1]
        adapter = adapter_for(address)
        client = openai.AsyncOpenAI(base_url=address, api_key="none")
        arguments = ("--serve", "agent", "--url", server.url, "--address", address)
        with Peer("benchmarks.model_call", *arguments) as agent:
            async with client, connect(server.url) as bus:
                broker = server.process_id
                assert broker is not None
                sides: dict[str, tuple[Ask, Stream, list[int]]] = {
                    "sdk": (*sdk_side(client), []),
                    "adapter": (*adapter_side(adapter), []),
                    "bus": (*bus_side(bus), [agent.process.pid, broker]),
                }
                for ask, stream, others in sides.values():
                    await measure(ask, stream, others, max(20, count // 10))
                rounds_of = {
                    kind: functools.partial(measure, *side, count) for kind, side in sides.items()
                }
                try:
                    return await alternate(rounds_of, rounds)
                finally:
                    await adapter.aclose()


def main() -> None:
    """Measure, print the table, and keep the figures."""
    options = parser(__doc__, "model_call", rounds=5)
    options.add_argument("--count", type=int, default=400, help="calls a round; default: 400")
    options.add_argument("--serve", choices=["model", "agent"], help=argparse.SUPPRESS)
    options.add_argument("--url", help=argparse.SUPPRESS)
    options.add_argument("--address", help=argparse.SUPPRESS)
    given = options.parse_args()
    install_loop()
    if given.serve:
        serving = serve_model() if given.serve == "model" else serve_agent(given.url, given.address)
        asyncio.run(serving)
        return
    host = machine("openai", "uvicorn")
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        figures = asyncio.run(compare(server, given.rounds, given.count))
    report(figures, SIDES)
    added = {name: figures["bus"][name] - figures["sdk"][name] for name in (ADDED, FIRST, LAST)}
    print()
    for name, value in added.items():
        goal = f"   goal {ADDED_GOAL}" if name == ADDED else ""
        print(f"the bus adds to the {name:24}{value:12.2f}{goal}")
    goals = {ADDED: f"bus - SDK {ADDED_GOAL}"}
    keep(given.output, host, figures, names=SIDES, goals=goals)


if __name__ == "__main__":
    main()
