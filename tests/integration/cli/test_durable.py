"""Durable tasks from the command line: every process is real, and may be killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman_bus.identifiers import new_identifier
from dragoman_bus.server import NatsServer
from dragoman_gateways.cli.exit_codes import ExitCode
from tests.integration.cli.programs import Program, run, start

pytestmark = pytest.mark.anyio

QUEUE_LIMIT = 3
LIMITS = f"""
[durable]
ack_wait_seconds = 3
max_log_bytes = 67_108_864
max_queued_tasks = {QUEUE_LIMIT}
max_queued_bytes = 16_777_216
max_artifact_bytes = 16_777_216
"""

AGENT = """
import asyncio
from dragoman_agents import Agent, Context
from dragoman_bus.protocol.payloads import ModelFacts

agent = Agent("tortoise", description="Takes its time")
careful = Agent("hare", description="Does not stumble", models=[
    ModelFacts(provider="acme", family="swift", model="swift-2")])

@agent.skill
async def crawl(text: str, *, ctx: Context) -> str:
    for word in text.split():
        await ctx.emit(word + " ")
        await asyncio.sleep(0.1)
    return "".join(word + " " for word in text.split())

@agent.skill
async def sleep(text: str, *, ctx: Context) -> str:
    await ctx.emit(text)
    await asyncio.sleep(3600)
    return text

@agent.skill
async def book(text: str, *, ctx: Context) -> str:
    return f"{text} on " + await ctx.ask("Which day?")

@agent.skill
async def trip(text: str, *, ctx: Context) -> str:
    await ctx.emit("half of ")
    raise RuntimeError("over a stone")

mortal = Agent("mayfly", description="Is killed")

@mortal.skill
async def live(text: str, *, ctx: Context) -> str:
    for number, word in enumerate(text.split()):
        if ctx.attempt == 1 and number == 3:
            await asyncio.sleep(3600)  # it is killed here
        await ctx.emit(word + " ")
    return "".join(word + " " for word in text.split())

@careful.skill
async def trip(text: str) -> str:
    return f"{text}, without a stone"
"""


@dataclass
class Place:
    """A bus with a supervisor, and where its files are."""

    url: str
    file: Path
    configuration: Path

    async def ask(self, *arguments: str) -> tuple[int, str, str]:
        """A ``dragoman`` command on this bus that ends by itself."""
        return await run(*arguments, "--server", self.url)

    async def json(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and JSON lines of one."""
        code, output, _ = await self.ask(*arguments, "--json")
        return code, [json.loads(line) for line in output.splitlines()]

    def begin(self, *arguments: str) -> Any:
        """A command that is dealt with while it runs."""
        return start(*arguments, "--json", "--server", self.url)

    @asynccontextmanager
    async def agent(self, name: str = "agent", replicas: int = 1) -> AsyncIterator[dict[str, int]]:
        """An agent's processes; their pids by instance."""
        async with AsyncExitStack() as stack:
            pids = {}
            for _ in range(replicas):
                program = await stack.enter_async_context(self.begin("run", f"{self.file}:{name}"))
                ready = await program.line(lambda line: line["event"] == "ready")
                pids[ready["instance"]] = ready["pid"]
            yield pids


@pytest.fixture(scope="module")
async def place(
    nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    """A supervised bus with the tortoise and the hare, for all tests of this module."""
    folder = tmp_path_factory.mktemp("durable")
    made = Place(nats_server.url, folder / "agents.py", folder / "dragoman.toml")
    made.file.write_text(AGENT)
    made.configuration.write_text(LIMITS)
    async with supervisor(made) as program:
        await acting(program)
        async with made.agent(), made.agent("careful"):
            yield made
        assert await program.end(signal.SIGTERM) == ExitCode.OK


def supervisor(place: Place) -> Any:
    return place.begin("supervise", "--config", str(place.configuration))


async def acting(program: Program, acts: bool = True) -> dict[str, Any]:
    return await program.line(lambda line: line.get("acts") is acts)


def is_artifact(line: dict[str, Any]) -> bool:
    return bool(line["event"] == "artifact")


def text_of(lines: list[dict[str, Any]]) -> str:
    updates = [line["artifactUpdate"] for line in lines if line["event"] == "artifact"]
    return "".join(part["text"] for update in updates for part in update["artifact"]["parts"])


WORDS = " ".join(str(number) for number in range(40))
LIVE = ("ask", "--durable", "live", WORDS)


async def test_the_id_is_told_at_once_and_the_answer_is_the_tasks(place: Place) -> None:
    code, lines = await place.json("ask", "--durable", "crawl", "a b")

    assert code == ExitCode.OK
    assert [line["event"] for line in lines][::3] == ["submitted", "artifact"]
    assert lines[0]["delivery"] == "durable"
    assert lines[-1]["value"] == text_of(lines) == "a b "


async def test_a_stream_goes_on_when_its_worker_is_killed(place: Place) -> None:
    async with place.agent("mortal", 2) as pids, place.begin(*LIVE) as ask:
        submitted = await ask.line(lambda line: line["event"] == "submitted")
        await ask.line(is_artifact)
        _, [task] = await place.json("task", "get", submitted["taskId"])
        worker = task["attempts"][0]["source"].rpartition("/")[2]
        os.kill(pids[worker], signal.SIGKILL)
        result = await ask.line(lambda line: line["event"] == "result")

    assert text_of(ask.lines) == result["value"] == f"{WORDS} "
    assert result["receipt"]["instance"] != worker


async def test_a_watch_continues_where_an_interrupted_ask_stopped(place: Place) -> None:
    async with place.begin("ask", "--durable", "crawl", WORDS, "--id", "left-1") as ask:
        await ask.line(is_artifact)
        await ask.line(is_artifact)
        ask.process.send_signal(signal.SIGINT)
        left = await ask.line(lambda line: line["event"] == "left")
        await ask.process.wait()
    position = str(left["position"])
    code, lines = await place.json("task", "watch", "left-1", "--after", position)
    text_code, text, _ = await place.ask("task", "watch", "left-1", "--after", position)

    assert (ask.process.returncode, code, text_code) == (ExitCode.INTERRUPTED, 0, 0)
    assert text_of(ask.lines) + text_of(lines) == f"{WORDS} "
    assert text == f"{text_of(lines)}\n"


async def test_the_same_id_is_the_same_task_and_other_input_a_conflict(place: Place) -> None:
    for _ in range(2):
        code, _ = await place.json("ask", "--durable", "crawl", "a", "--id", "same-1")
        assert code == ExitCode.OK
    code, lines = await place.json("ask", "--durable", "crawl", "b", "--id", "same-1")
    _, [task] = await place.json("task", "get", "same-1")

    assert (code, lines[-1]["error"]["code"]) == (ExitCode.TASK_FAILED, "TASK_CONFLICT")
    assert len(task["attempts"]) == 1


async def test_a_full_queue_refuses_and_says_when_to_come_back(place: Place) -> None:
    accepted = [
        f"ask --durable absent x --detach --id full-{n}".split() for n in range(QUEUE_LIMIT)
    ]
    for arguments in accepted:
        assert await place.json(*arguments) == (0, [submitted(arguments[-1], "absent")])

    code, lines = await place.json("ask", "--durable", "absent", "x", "--detach")
    other_class, _ = await place.json(
        "ask", "--durable", "absent", "x", "--detach", "--class", "batch"
    )

    assert (code, lines[-1]["error"]["code"]) == (ExitCode.NO_AGENT, "OVERLOADED")
    assert lines[-1]["error"]["retryAfterSeconds"] > 0
    assert other_class == ExitCode.OK


def submitted(task_id: str, target: str) -> dict[str, str]:
    line = {"event": "submitted", "taskId": task_id, "target": target}
    return line | {"delivery": "durable"}


async def test_a_question_without_a_terminal_waits_for_a_reply(place: Place) -> None:
    code, output, errors = await place.ask("ask", "--durable", "book", "a table", "--id", "q-1")
    assert (code, output) == (ExitCode.TASK_FAILED, "")
    assert "Which day?" in errors
    assert "dragoman task reply q-1" in errors
    _, [listed] = await place.json("task", "list", "--state", "input-required")
    assert [task["taskId"] for task in listed["tasks"]] == ["q-1"]

    assert (await place.ask("task", "reply", "q-1", "Monday"))[0] == ExitCode.OK
    code, output, _ = await place.ask("task", "watch", "q-1")
    again, _ = await place.json("task", "reply", "q-1", "Tuesday")

    assert (code, output) == (ExitCode.OK, "a table on Monday\n")
    assert again == ExitCode.TASK_FAILED


async def test_ordered_tasks_of_a_context_run_one_after_the_other(place: Place) -> None:
    context = new_identifier()
    first, second, free = (f"{context[:20]}-{name}" for name in ("first", "second", "free"))
    within = ("--context", context, "--durable")
    await place.json("ask", "book", "a table", "--ordered", "--detach", "--id", first, *within)
    await place.json("ask", "crawl", "a", "--ordered", "--detach", "--id", second, *within)
    watched, _ = await place.json("ask", "crawl", "a", "--id", free, *within)
    _, [waiting] = await place.json("task", "get", second)

    await place.json("task", "reply", first, "Monday")
    code, _ = await place.json("task", "watch", second)
    _, before = await place.json("task", "replay", first)
    _, after = await place.json("task", "replay", second)

    assert (watched, code) == (ExitCode.OK, ExitCode.OK)
    assert waiting["state"] == "TASK_STATE_SUBMITTED"
    assert before[-1]["event"] == "dev.dragoman.task.final"
    assert after[1]["position"] > before[-1]["position"]


async def test_a_failed_task_is_a_dead_letter_that_is_settled_once(place: Place) -> None:
    task_id = new_identifier()
    code, _ = await place.json("ask", "--durable", "tortoise/trip", "go", "--id", task_id)
    assert code == ExitCode.TASK_FAILED
    _, [page] = await place.json("dlq", "ls", "--skill", "trip")
    assert [letter["taskId"] for letter in page["deadLetters"]] == [task_id]
    _, [shown] = await place.json("dlq", "show", task_id)
    letter = shown["deadLetter"]
    assert letter["artifacts"][0]["parts"] == [{"text": "half of "}]
    assert "over a stone" in letter["attempts"][0]["error"]["message"]

    code, output, _ = await place.ask("dlq", "redrive", task_id, "--agent", "hare")
    again = await place.ask("dlq", "redrive", task_id)
    other, lines = await place.json("dlq", "redrive", task_id, "--agent", "tortoise")
    dropped, _ = await place.json("dlq", "drop", task_id, "--reason", "late")
    _, answer, _ = await place.ask("task", "watch", output.strip())

    assert (code, output) == (again[0], again[1]) == (ExitCode.OK, f"{task_id}-r1\n")
    assert "before" in again[2]
    assert (other, dropped) == (ExitCode.TASK_FAILED, ExitCode.TASK_FAILED)
    assert lines[-1]["error"]["code"] == "ALREADY_SETTLED"
    assert answer == "go, without a stone\n"
    assert (await place.json("dlq", "ls", "--skill", "trip"))[1] == [{"deadLetters": []}]


async def test_an_agent_that_is_not_there_or_lacks_the_skill_gets_no_dead_letter(
    place: Place,
) -> None:
    task_id = new_identifier()
    await place.json("ask", "--durable", "tortoise/trip", "go", "--id", task_id)
    redrive = ("dlq", "redrive", task_id, "--agent")

    absent, [told] = await place.json(*redrive, "hair")
    unable, [refused] = await place.json(*redrive, "hare", "--skill", "crawl")
    _, [shown] = await place.json("dlq", "show", task_id)
    code, [forced] = await place.json(*redrive, "hair", "--force")
    again, [same] = await place.json(*redrive, "hair")
    _, [waiting] = await place.json("task", "get", forced["redrivenAs"])

    assert (absent, told["error"]["code"]) == (ExitCode.NO_AGENT, "AGENT_UNAVAILABLE")
    assert (unable, refused["error"]["code"]) == (ExitCode.NO_AGENT, "UNKNOWN_SKILL")
    assert told["error"]["taskId"] == refused["error"]["taskId"] == task_id
    assert "'hair'" in told["error"]["message"]
    assert "it has: trip" in refused["error"]["message"]
    assert "settlement" not in shown
    assert (code, again) == (ExitCode.OK, ExitCode.OK)
    assert same["redrivenAs"] == forced["redrivenAs"]
    assert waiting["state"] == "TASK_STATE_SUBMITTED"


async def test_a_dead_letter_is_redriven_to_an_agent_with_another_model(place: Place) -> None:
    task_id = new_identifier()
    await place.json("ask", "--durable", "tortoise/trip", "go", "--id", task_id)
    code, lines = await place.json("dlq", "redrive", task_id, "--model", "gpt-none")
    assert code == ExitCode.NO_AGENT
    assert "acme/swift-2" in lines[-1]["error"]["message"]

    code, lines = await place.json("dlq", "redrive", task_id, "--model", "swift-2")
    watched, output, _ = await place.ask("task", "watch", lines[0]["redrivenAs"])

    assert (code, watched) == (ExitCode.OK, ExitCode.OK)
    assert output == "go, without a stone\n"


async def test_a_dropped_letter_is_listed_with_its_reason_only_when_all_are(place: Place) -> None:
    task_id = new_identifier()
    await place.json("ask", "--durable", "tortoise/trip", "go", "--id", task_id)
    code, _ = await place.json("dlq", "drop", task_id, "--reason", "nobody needs it")

    _, [opened] = await place.json("dlq", "ls")
    _, [everything] = await place.json("dlq", "ls", "--all")
    redriven, lines = await place.json("dlq", "redrive", task_id)
    found = {letter["taskId"]: letter for letter in everything["deadLetters"]}

    assert code == ExitCode.OK
    assert task_id not in [letter["taskId"] for letter in opened["deadLetters"]]
    assert found[task_id]["settlement"]["reason"] == "nobody needs it"
    assert (redriven, lines[-1]["error"]["code"]) == (ExitCode.TASK_FAILED, "ALREADY_SETTLED")


async def test_a_cancel_lands_on_queued_and_running_tasks_and_comes_too_late_for_others(
    place: Place,
) -> None:
    await place.json("ask", "--durable", "nobody", "x", "--detach", "--id", "queued-1")
    assert (await place.ask("task", "cancel", "queued-1", "--reason", "enough"))[0] == ExitCode.OK
    async with place.begin("ask", "--durable", "sleep", "zzz") as ask:
        await ask.line(is_artifact)
        task_id = ask.lines[0]["taskId"]
        assert (await place.ask("task", "cancel", task_id))[0] == ExitCode.OK
        error = await ask.line(lambda line: line["event"] == "error")
    late, lines = await place.json("task", "cancel", task_id)
    _, [queued] = await place.json("task", "get", "queued-1")

    assert (error["error"]["code"], error["exitCode"]) == ("CANCELED", ExitCode.TASK_FAILED)
    assert "enough" in queued["error"]["message"]
    assert (late, lines[-1]["error"]["code"]) == (ExitCode.TASK_FAILED, "TASK_NOT_CANCELABLE")


async def test_a_list_goes_on_page_by_page_from_the_latest_back(place: Place) -> None:
    context = new_identifier()
    ids = [f"{context[:20]}-{number}" for number in range(5)]
    for task_id in ids:
        arguments = ("--id", task_id, "--context", context)
        await place.json("ask", "--durable", "crawl", "a", *arguments)
    found: list[str] = []
    page: list[str] = []
    while True:
        _, [answer] = await place.json("task", "list", "--context", context, "--limit", "2", *page)
        found += [task["taskId"] for task in answer["tasks"]]
        if "next" not in answer:
            break
        page = ["--page", str(answer["next"])]
    _, [oldest] = await place.json("task", "list", "--context", context, "--oldest-first")
    _, [none] = await place.json("task", "list", "--context", context, "--until", "1h")
    _, [recent] = await place.json("task", "list", "--context", context, "--since", "1h")

    assert found == ids[::-1]
    assert [task["taskId"] for task in oldest["tasks"]] == ids
    assert (none["tasks"], len(recent["tasks"])) == ([], 5)
    assert {task["state"] for task in recent["tasks"]} == {"TASK_STATE_COMPLETED"}


async def test_a_replay_shows_each_entry_and_follows_to_the_end(place: Place) -> None:
    async with place.begin("ask", "--durable", "crawl", WORDS) as ask:
        await ask.line(is_artifact)
        task_id = ask.lines[0]["taskId"]
        followed, live = await place.json("task", "replay", task_id, "--follow")
        code, stored = await place.json("task", "replay", task_id)
        after = str(stored[2]["position"])
        _, rest = await place.json("task", "replay", task_id, "--after", after)

    assert (followed, code) == (ExitCode.OK, ExitCode.OK)
    assert live == stored
    assert rest == stored[3:]
    assert [line["kind"] for line in stored] == ["submit", "state", *["update"] * 40, "state"]
    positions = [line["position"] for line in stored]
    assert positions == sorted(set(positions))
    assert stored[-1]["event"] == "dev.dragoman.task.final"


@pytest.mark.parametrize(
    "command", ["task get", "task watch", "task replay", "task cancel", "dlq show", "dlq redrive"]
)
async def test_an_unknown_id_has_its_own_exit_code(place: Place, command: str) -> None:
    code, lines = await place.json(*command.split(), "nobody-knows")

    assert (code, lines[-1]["error"]["code"]) == (ExitCode.NOT_FOUND, "TASK_NOT_FOUND")


async def test_another_supervisor_acts_when_the_acting_one_is_killed(
    place: Place, tmp_path: Path
) -> None:
    with NatsServer(tmp_path) as server:
        alone = Place(server.url, place.file, place.configuration)
        async with supervisor(alone) as first:
            await acting(first)
            async with supervisor(alone) as second:
                await acting(second, False)
                first.process.kill()
                await acting(second)
                code, lines = await alone.json("ask", "--durable", "x", "x", "--deadline", "1")

                assert (code, lines[-1]["error"]["code"]) == (6, "DEADLINE_EXCEEDED")
                assert await second.end(signal.SIGTERM) == ExitCode.OK


async def test_a_bus_without_durable_delivery_says_what_to_start(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as server:
        arguments = ("ask", "--durable", "x", "x", "--json", "--server", server.url)
        code, output, _ = await run(*arguments)

    error = json.loads(output)["error"]
    assert (code, error["code"]) == (ExitCode.BUS_UNAVAILABLE, "NOT_CONFIGURED")
    assert "dragoman supervise" in error["message"]


async def test_up_supervises_and_a_stream_goes_on_when_its_server_is_killed(
    place: Place, tmp_path: Path
) -> None:
    declared = f'\n[[agents]]\nmodule = "{place.file}:agent"\n'
    (tmp_path / "dragoman.toml").write_text(LIMITS + declared)
    arguments = ("up", "--port", "0", "--data-directory", str(tmp_path / "data"), "--json")
    async with start("--config", str(tmp_path / "dragoman.toml"), *arguments) as up:
        bus = await up.line(lambda line: line["event"] == "status" and line["who"] == "bus")
        await up.line(lambda line: line["event"] == "process.ready")
        here = Place(bus["url"], place.file, place.configuration)
        async with here.begin("ask", "--durable", "crawl", WORDS) as ask:
            await ask.line(is_artifact)
            os.kill(bus["pid"], signal.SIGKILL)
            result = await ask.line(lambda line: line["event"] == "result")
        ended = await up.end(signal.SIGTERM)

    assert text_of(ask.lines) == result["value"] == f"{WORDS} "
    assert ended == ExitCode.OK


async def test_watch_shows_what_happens_to_a_durable_task_once(place: Place) -> None:
    async with place.begin("watch") as watching:
        for _ in range(2):
            await watching.line(lambda line: line["event"] == "agent.joined")
        for task_id in ("seen-1", "seen-2"):
            await place.json("ask", "--durable", "crawl", "a b", "--id", task_id)
        await watching.line(lambda line: "final" in line["event"] and "seen-2" in str(line))
    seen = [line for line in watching.lines if "seen-2" in str(line)]
    kinds = [line["event"].removeprefix("dev.dragoman.task.") for line in seen]

    assert kinds == ["submit", "status", "artifact", "artifact", "final"]
