"""A direct task beside the same task through A2A's own Python SDK, in one run on one machine.

The task: 1 KiB of text comes back as the artifact of a completed task. Both agents have a process
of their own on uvloop, and the caller reuses its connections; 16 tasks are in flight.

A2A: the newest a2a-sdk, its client (JSON-RPC over HTTP), its server with `DefaultRequestHandler`
and `InMemoryTaskStore` on starlette and uvicorn with httptools, without access log. The executor
is that of the SDK's tutorial: the task, working, an artifact, completed. "A message, no task" is
A2A's shortest answer, which leaves no task behind. A stream is `SendStreamingMessage`.

Ours: a real nats-server, a typed skill, input and output validated at both ends, a receipt. The
server's CPU is counted with that of caller and agent.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.echo_agent import CHUNK, serve_echo
from benchmarks.measuring import (
    PAYLOAD,
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
CHUNKS = 20
SIDES = {"a2a": "a2a-sdk", "ours": "Dragoman"}
TASKS, CPU = "tasks per second", "CPU us per task"
GOALS = {TASKS: ">= 30", CPU: "<= 0.033"}


# -- the agents -------------------------------------------------------------------------------


class EchoExecutor:
    """What an `AgentExecutor` has, by its shape. The text's first word chooses the answer."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        """Answer with a message, a stream, or a task with one artifact."""
        from a2a.helpers import new_task_from_user_message, new_text_message, new_text_part
        from a2a.server.tasks import TaskUpdater
        from a2a.types import Role

        text = context.get_user_input()
        if text == "message":
            await event_queue.enqueue_event(new_text_message(PAYLOAD, role=Role.ROLE_AGENT))
            return
        task = context.current_task or new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        if text == "stream":
            for number in range(CHUNKS):
                await updater.add_artifact(
                    [new_text_part(CHUNK)],
                    artifact_id="answer",
                    append=number > 0,
                    last_chunk=number == CHUNKS - 1,
                )
        else:
            await updater.add_artifact([new_text_part(text)])
        await updater.complete()

    async def cancel(self, context: Any, event_queue: Any) -> None:
        """Nothing here is canceled."""
        raise NotImplementedError


async def serve_a2a() -> None:
    """The agent over HTTP, as the SDK's tutorial serves one."""
    import uvicorn
    from a2a.server.request_handlers import DefaultRequestHandler
    from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
    from a2a.server.tasks import InMemoryTaskStore
    from starlette.applications import Starlette

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    card = agent_card(f"http://127.0.0.1:{port}/")
    handler = DefaultRequestHandler(
        agent_executor=EchoExecutor(), task_store=InMemoryTaskStore(), agent_card=card
    )
    routes = [*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")]
    config = uvicorn.Config(
        Starlette(routes=routes),
        http="httptools",
        loop="uvloop",
        log_level="error",
        access_log=False,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    ready(port)
    await serving


def agent_card(url: str) -> Any:
    """What the agent over HTTP says of itself."""
    from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill

    return AgentCard(
        name="bench",
        description="Says what it is told",
        version="1.0.0",
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        capabilities=AgentCapabilities(streaming=True),
        supported_interfaces=[
            AgentInterface(protocol_binding="JSONRPC", url=url, protocol_version="1.0")
        ],
        skills=[AgentSkill(id="echo", name="Echo", description="Echoes", tags=["test"])],
    )


async def serve_ours(url: str) -> None:
    """The same as an agent on the bus."""
    await serve_echo(url, concurrency=128, chunks=CHUNKS)


# -- the callers ------------------------------------------------------------------------------


class A2ACaller:
    """Asks over HTTP; one client that streams, one that does not, as the SDK has it."""

    def __init__(self, port: str) -> None:
        from a2a.client import ClientConfig, ClientFactory

        card = agent_card(f"http://127.0.0.1:{port}/")
        self.plain = ClientFactory(ClientConfig(streaming=False)).create(card)
        self.streaming = ClientFactory(ClientConfig(streaming=True)).create(card)

    async def ask(self, text: str = PAYLOAD) -> None:
        """One task, or one message."""
        async for answer in self.plain.send_message(_request(text)):
            if text == "message":
                assert answer.message.parts[0].text == PAYLOAD
            else:
                assert answer.task.artifacts[0].parts[0].text == text

    async def ask_message(self) -> None:
        """One answer without a task."""
        await self.ask("message")

    async def stream(self) -> float:
        """One streamed task; milliseconds until its first chunk."""
        started, first, chunks = time.perf_counter(), 0.0, 0
        async for event in self.streaming.send_message(_request("stream")):
            if event.HasField("artifact_update"):
                first = first or time.perf_counter() - started
                chunks += 1
        assert chunks == CHUNKS
        return first * 1000

    async def close(self) -> None:
        """Close both."""
        await self.plain.close()
        await self.streaming.close()


def _request(text: str) -> Any:
    from a2a.helpers import new_text_message
    from a2a.types import Role, SendMessageRequest

    return SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))


# -- the comparison ---------------------------------------------------------------------------


class Side:
    """One way to ask, and the processes whose CPU it takes besides this one."""

    def __init__(
        self,
        ask: Ask,
        stream: Callable[[], Awaitable[float]],
        processes: list[int],
        message: Ask | None = None,
    ) -> None:
        self.ask = ask
        self.stream = stream
        self.processes = processes
        self.message = message or ask

    async def measure(self, count: int) -> Figures:
        """One round."""
        taken = await latencies(self.ask, max(20, count // 4))
        others, own = self._others(), own_cpu()
        figures = {"p50 ms": percentile(taken, 0.5), "p99 ms": percentile(taken, 0.99)}
        figures[TASKS] = await rate(self.ask, count, IN_FLIGHT)
        caller, agent = own_cpu() - own, self._others() - others
        figures[CPU] = (caller + agent) / count * 1e6
        figures["... of the caller"] = caller / count * 1e6
        figures["... of agent and server"] = agent / count * 1e6
        figures["a message, no task, per second"] = await rate(self.message, count, IN_FLIGHT)
        firsts = sorted([await self.stream() for _ in range(20)])
        figures["first chunk p50 ms"] = percentile(firsts, 0.5)
        streamed = await rate(self.stream, count // 4, IN_FLIGHT)
        figures[f"streams of {CHUNKS} chunks per second"] = streamed
        figures["chunks per second"] = streamed * CHUNKS
        return figures

    def _others(self) -> float:
        return sum(process_cpu(process) for process in self.processes)


async def compare(server: NatsServer, rounds: int, count: int) -> dict[str, Figures]:
    """All rounds of both sides; the median of each figure."""
    from dragoman_bus import connect
    from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent

    with (
        Peer("benchmarks.a2a", "--serve", "a2a") as http,
        Peer("benchmarks.a2a", "--serve", "ours", "--url", server.url) as agent,
    ):
        caller = A2ACaller(http.told[1])
        async with connect(server.url) as bus:
            contract = (await bus.discover(agent="bench"))[0].contract("echo")

            async def ask() -> None:
                result = await bus.ask("echo", PAYLOAD, agent="bench", contract=contract)
                assert result.text == PAYLOAD

            async def stream() -> float:
                started, first, chunks = time.perf_counter(), 0.0, 0
                task = await bus.submit("stream", "go", agent="bench")
                async for update in task:
                    if isinstance(update, TaskArtifactUpdateEvent):
                        first = first or time.perf_counter() - started
                        chunks += 1
                assert (chunks, (await task.result()).text) == (CHUNKS, CHUNK * CHUNKS)
                return first * 1000

            broker = server.process_id
            assert broker is not None
            theirs = Side(caller.ask, caller.stream, [http.process.pid], caller.ask_message)
            ours = Side(ask, stream, [agent.process.pid, broker])
            await theirs.measure(count // 4)
            await ours.measure(count)
            try:
                # A hundred times as many of ours would take as long as theirs; CPU is read in
                # steps of 10 ms, so a round needs enough of them.
                return await alternate(
                    {
                        "a2a": lambda: theirs.measure(count),
                        "ours": lambda: ours.measure(count * 10),
                    },
                    rounds,
                )
            finally:
                await caller.close()


def main() -> None:
    """Measure, print the table, and keep the figures."""
    options = parser(__doc__, "a2a", rounds=5)
    options.add_argument(
        "--count", type=int, default=800, help="tasks a round of the SDK; ten times that of ours"
    )
    options.add_argument("--serve", choices=list(SIDES), help=argparse.SUPPRESS)
    options.add_argument("--url", help=argparse.SUPPRESS)
    given = options.parse_args()
    logging.disable(logging.WARNING)
    install_loop()
    if given.serve:
        asyncio.run(serve_a2a() if given.serve == "a2a" else serve_ours(given.url))
        return
    host = machine("a2a-sdk", "uvicorn", "starlette", "httpx", "protobuf")
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder)) as server:
        figures = asyncio.run(compare(server, given.rounds, given.count))
    report(figures, SIDES, GOALS)
    keep(given.output, host, figures, names=SIDES, goals=GOALS)


if __name__ == "__main__":
    main()
