"""What a worker asks for, claims, writes and acknowledges, as the server sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.protocol.errors import RemoteError
from tests.conformance.durable_rules.house import House
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PULLS = r"\$JS\.API\.CONSUMER\.MSG\.NEXT\..*"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class Bench:
    """A worker, what it was made to do, and how often."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.runs: list[str] = []
        self.paid = 0
        self.agent = agent = Agent("worker", concurrency=2)
        for work in (self.shout, self.hold, self.stream, self.stumble, self.greet, self.careful):
            agent.add_skill(work.__name__, work)

    async def shout(self, text: str) -> str:
        """Say it aloud."""
        self.runs.append(text)
        return text.upper()

    async def hold(self, text: str, *, ctx: Context) -> str:
        """Work until released."""
        self.runs.append(text)
        await ctx.status("holding")
        await self.release.wait()
        return text

    async def stream(self, text: str, *, ctx: Context) -> str:
        """Stream some of it at first, and all of it at the second attempt."""
        words = text.split()
        for word in words if ctx.attempt > 1 else words[:2]:
            await ctx.emit(f"{word} ")
        if ctx.attempt == 1:
            raise RemoteError("not yet", code="MODEL_OVERLOADED", retry_after=0.3)
        return "".join(f"{word} " for word in words)

    async def stumble(self, text: str) -> str:
        """Fail, always, in a way that may pass."""
        self.runs.append(text)
        raise RemoteError("again", code="MODEL_OVERLOADED", retry_after=0.2)

    async def greet(self, text: str, *, ctx: Context) -> str:
        """Ask twice."""
        first = await ctx.ask("first name?")
        return f"{text} {first} {await ctx.ask('last name?')}"

    async def careful(self, text: str, *, ctx: Context) -> str:
        """Pay once, whatever happens afterwards."""

        async def pay() -> str:
            self.paid += 1
            return text

        for _ in range(2):
            await ctx.step("pay", pay)
        if ctx.attempt == 1:
            raise RemoteError("after paying", code="MODEL_OVERLOADED", retry_after=0.0)
        return text


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def acknowledgements(house: House) -> list[bytes]:
    return [one.data for one in house.sent(r"\$JS\.ACK\.DRAGOMAN_QUEUE\..*")]


def first_at(house: House, condition: Callable[[Any], bool]) -> int:
    return next(number for number, one in enumerate(house.heard) if condition(one))


async def test_a_short_task_is_its_submission_and_its_final_and_then_acknowledged(
    house: House, bench: Bench
) -> None:
    await house.serve(bench.agent)
    # On a busy machine a task may take longer than the tenth of a second that needs no claim.
    for task in (f"short-{number}" for number in range(5)):
        await house.submit(task, "shout", "x")
        await house.ended(task)
        if [entry.kind for entry in await house.log(task)] == ["submit", "state"]:
            break
    else:
        pytest.fail(f"claimed before its end: {await house.log(task)}")
    await eventually(lambda: acknowledgements(house).count(b"+ACK") == len(bench.runs))

    await house.hear()
    ((final, headers),) = house.sent_to(task, "state")
    assert headers[EXPECTED] == "0"
    assert (final["data"]["attempt"], final["data"]["sequence"]) == (1, 1)
    ended = first_at(house, lambda one: one.subject == f"dragoman.v1.live.{task}.state")
    acknowledged = max(
        number
        for number, one in enumerate(house.heard)
        if one.subject.startswith("$JS.ACK.") and one.data == b"+ACK"
    )
    assert ended < acknowledged


async def test_a_longer_task_is_claimed_first_and_everything_is_fenced_by_the_claim(
    house: House, bench: Bench
) -> None:
    await house.serve(bench.agent)
    await house.submit("long", "hold", "x")
    await eventually(lambda: house.sent(r"dragoman\.v1\.live\.long\.state"))
    (claim,) = await house.spine("long")
    assert (claim.state, claim.data["attempt"], claim.data["sequence"]) == ("WORKING", 1, 1)
    assert acknowledgements(house).count(b"+ACK") == 0
    bench.release.set()
    await house.ended("long")

    await house.hear()
    written = house.sent_to("long", "(state|update)")
    assert written[0][1][EXPECTED] == "0"
    assert {headers[EXPECTED] for _, headers in written[1:]} == {str(claim.position)}
    sequences = [document["data"]["sequence"] for document, _ in written]
    assert sequences == list(range(1, len(written) + 1))


async def test_a_message_delivered_again_is_claimed_above_whoever_had_it(
    house: House, bench: Bench
) -> None:
    await house.queues("shout")
    await house.submit("again", "shout", "x")
    await house.take("shout")
    position = await house.store("again", "state", house.ghost.status("again", 1), expect=0)
    await house.serve(bench.agent)
    await house.ended("again")

    claims = [entry for entry in await house.spine("again") if entry.state == "WORKING"]
    assert [entry.data["attempt"] for entry in claims] == [1, 2]
    await house.hear()
    ghosts, claimed, *_ = house.sent_to("again", "state")
    assert ghosts[1][EXPECTED] == "0"
    assert claimed[1][EXPECTED] == str(position)
    assert bench.runs == ["x"]


async def test_a_message_of_an_ended_or_canceled_task_is_not_worked_on(
    house: House, bench: Bench
) -> None:
    await house.queues("shout")
    for task in ("over", "unwanted"):
        await house.submit(task, "shout", task)
        await house.take("shout")
    await house.store("over", "state", house.ghost.final("over", 1), expect=0)
    wish = house.ghost.envelope("task.cancel", {"taskId": "unwanted", "reason": "enough"})
    await house.store("unwanted", "control", wish)
    await house.serve(bench.agent)

    final = await house.ended("unwanted")
    assert final.state == "CANCELED"
    empty = house.witness.streams().queue_state
    await eventually(lambda: is_empty(empty, "skill-shout-interactive"))
    assert [entry.type for entry in await house.spine("over")] == ["task.final"]
    assert bench.runs == []


async def is_empty(queue_state: Any, name: str) -> bool:
    state = await queue_state("DRAGOMAN_QUEUE", name)
    return (state.waiting, state.unacknowledged) == (0, 0)


async def test_a_worker_that_lost_its_task_writes_nothing_more_and_does_not_acknowledge(
    house: House, bench: Bench
) -> None:
    instance = await house.serve(bench.agent)
    await house.submit("stolen", "hold", "x")
    await eventually(lambda: house.sent(r"dragoman\.v1\.live\.stolen\.state"))
    await house.store("stolen", "state", house.ghost.status("stolen", 1, attempt=2))
    bench.release.set()
    await eventually(lambda: not instance.running)

    assert acknowledgements(house).count(b"+ACK") == 0
    thief = [entry for entry in await house.log("stolen") if entry.data.get("attempt") == 2]
    mine = [entry for entry in await house.log("stolen") if entry.data.get("attempt") == 1]
    assert len(thief) == 1
    assert max(entry.position for entry in mine) < thief[0].position


async def test_a_worker_asks_for_no_more_than_it_has_slots_and_tells_that_it_works(
    house: House, bench: Bench
) -> None:
    await house.serve(bench.agent)
    await eventually(lambda: house.sent(PULLS))
    asked = [json.loads(one.data) for one in house.sent(PULLS)]
    assert max(request.get("batch", 1) for request in asked) <= 2
    for number in range(2):
        await house.submit(f"busy-{number}", "hold", "x")
    await eventually(lambda: len(bench.runs) == 2)
    loop = asyncio.get_running_loop()
    times: list[float] = []
    await house.witness.subscribe(
        "$JS.ACK.DRAGOMAN_QUEUE.>",
        lambda one: times.append(loop.time()) if one.data == b"+WPI" else None,
    )
    await eventually(lambda: len(times) >= 8)
    bench.release.set()

    # Two tasks, each at least three times within two seconds; some may be late on a busy machine.
    gaps = sorted(later - earlier for earlier, later in pairwise(times[::2]))
    assert gaps[0] <= 2.0 / 3


async def test_a_retryable_failure_is_told_and_given_back_until_attempts_are_used_up(
    house: House, bench: Bench
) -> None:
    await house.supervisor()
    await house.serve(bench.agent)
    await house.submit("failing", "stumble", "x", maximumAttempts=3)
    final = await house.ended("failing")

    spine = [(entry.state, entry.data["attempt"]) for entry in await house.spine("failing")]
    assert spine == [
        ("WORKING", 1), ("SUBMITTED", 1), ("WORKING", 2), ("SUBMITTED", 2), ("WORKING", 3),
        ("FAILED", 3),
    ]  # fmt: skip
    given_back = [entry for entry in await house.spine("failing") if entry.state == "SUBMITTED"]
    assert all(entry.data["error"]["code"] == "MODEL_OVERLOADED" for entry in given_back)
    assert final.data["error"]["code"] == "MODEL_OVERLOADED"
    rejected = [data for data in acknowledgements(house) if data.startswith(b"-NAK")]
    delays = [json.loads(data[4:])["delay"] / 1e9 for data in rejected]
    assert len(delays) == 2
    assert all(delay >= 0.2 for delay in delays)


async def test_attempts_that_nobody_ended_end_as_a_lost_agent(house: House, bench: Bench) -> None:
    await house.queues("shout")
    await house.submit("doomed", "shout", "x", maximumAttempts=2)
    await house.take("shout")
    for attempt in (1, 2):
        await house.store("doomed", "state", house.ghost.status("doomed", 1, attempt=attempt))
    await house.serve(bench.agent)

    final = await house.ended("doomed")
    assert (final.state, final.data["error"]["code"]) == ("FAILED", "AGENT_LOST")
    assert final.data["error"]["sideEffects"] == "possible"
    assert bench.runs == []


async def test_what_the_log_has_of_the_output_is_not_written_again(
    house: House, bench: Bench
) -> None:
    await house.supervisor()
    await house.serve(bench.agent)
    await house.submit("streamed", "stream", "a b c d")
    final = await house.ended("streamed")

    chunks = [entry.data for entry in await house.log("streamed", "update")]
    texts = [
        "".join(piece["text"] for piece in data["artifactUpdate"]["artifact"]["parts"])
        for data in chunks
    ]
    assert "".join(texts) == "a b c d "
    assert {data["attempt"] for data in chunks} == {1, 2}
    second = [data for data in chunks if data["attempt"] == 2]
    assert all(data["artifactUpdate"]["append"] for data in second)
    assert "artifacts" not in final.data
    # Text that was emitted in pieces may stand in one chunk.
    assert len(chunks) <= 4


async def test_questions_are_stored_free_the_slot_and_are_no_attempts_used_up(
    house: House, bench: Bench
) -> None:
    await house.supervisor()
    instance = await house.serve(bench.agent)
    await house.submit("asking", "greet", "Hello", maximumAttempts=1)
    for words, count in (("Ada", 1), ("Lovelace", 2)):

        async def asked(count: int = count) -> bool:
            spine = await house.spine("asking")
            return [entry.state for entry in spine].count("INPUT_REQUIRED") == count

        await eventually(asked)
        await eventually(lambda: not instance.running)
        message = {"messageId": words, "role": "ROLE_USER", "parts": [{"text": words}]}
        reply = house.ghost.envelope("task.reply", {"taskId": "asking", "message": message})
        await house.store("asking", "control", reply)
    final = await house.ended("asking")

    assert final.data["artifacts"][0]["parts"] == [{"text": "Hello Ada Lovelace"}]
    assert [entry.state for entry in await house.spine("asking")] == [
        "WORKING", "INPUT_REQUIRED", "WORKING", "INPUT_REQUIRED", "WORKING", "COMPLETED",
    ]  # fmt: skip


async def test_a_step_is_done_once_and_named_alike_in_every_attempt(
    house: House, bench: Bench
) -> None:
    await house.supervisor()
    await house.serve(bench.agent)
    await house.submit("stepped", "careful", "x")
    final = await house.ended("stepped")

    assert final.data["artifacts"][0]["parts"] == [{"text": "x"}]
    steps = [entry.data for entry in await house.log("stepped", "step")]
    assert [(step["name"], step["attempt"]) for step in steps] == [("pay", 1), ("pay #2", 1)]
    assert bench.paid == 2


async def test_only_what_is_no_submission_is_terminated(house: House, bench: Bench) -> None:
    await house.serve(bench.agent)
    wrong = house.submission("wrong", "shout", {"no": "text"})
    refused = house.submission("refused", "shout", "x", contract="sha256:" + "0" * 64)
    for task, document in (("wrong", wrong), ("refused", refused)):
        await house.store(task, "submit", document, expect=0)
        await house.enqueue(task, document)
    await house.ended("wrong")
    await eventually(lambda: any(data.startswith(b"-NAK") for data in acknowledgements(house)))
    assert not any(data.startswith(b"+TERM") for data in acknowledgements(house))

    await house.enqueue("junk", {"type": "junk", "data": {"skill": "shout"}})
    await eventually(lambda: any(data.startswith(b"+TERM") for data in acknowledgements(house)))
