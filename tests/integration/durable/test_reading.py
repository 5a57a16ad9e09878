"""Lists in pages and by every property, and streams that are taken up again at any position."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from dragoman_agents import Agent, Context
from dragoman_bus.client import task_list
from dragoman_bus.client.durable import TaskSummary
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent, TaskState
from dragoman_bus.protocol.timestamps import parse_timestamp
from dragoman_bus.transports.streams import Page, Stored
from tests.integration.durable.conftest import SETTINGS, House

pytestmark = pytest.mark.anyio


async def test_lists_fit_all_that_is_asked_for_and_go_on_after_any_page(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    began = time.time()
    made = [
        await bus.submit(skill, "x", delivery="durable", context_id=context)
        for skill, context in [("early", "a"), ("late", "a"), ("early", "b"), ("late", "b")]
    ]
    await made[0].cancel()

    async def listed(**filters: object) -> list[str]:
        found = [task async for task in bus.durable.tasks(**filters)]  # type: ignore[arg-type]
        return [task.task_id for task in found if task.task_id in {m.task_id for m in made}]

    ids = [task.task_id for task in made]
    assert await listed() == ids
    assert await listed(skill="early") == [ids[0], ids[2]]
    assert await listed(context_id="b") == ids[2:]
    assert await listed(state=TaskState.CANCELED) == [ids[0]]
    assert await listed(skill="early", context_id="b", state=TaskState.SUBMITTED) == [ids[2]]
    assert await listed(since=began - 1) == ids
    assert await listed(until=began - 1) == []
    assert await listed(since=time.time() + 60) == []
    pages: list[TaskSummary] = []
    while True:
        after = pages[-1].position if pages else 0
        page = bus.durable.tasks(since=began - 1, after=after)
        first = await anext(page, None)
        if first is None:
            break
        pages.append(first)
    assert [task.task_id for task in pages] == ids


@pytest.mark.parametrize("latest_first", [False, True])
async def test_a_list_with_bounds_of_time_reads_what_is_between_them(
    house: House, monkeypatch: pytest.MonkeyPatch, latest_first: bool
) -> None:
    await house.supervisor()
    bus = await house.bus()
    context = f"bounded-{int(latest_first)}"
    made = [
        (await bus.submit(skill, "x", delivery="durable", context_id=context)).task_id
        for skill in ("a", "a", "b", "a", "a", "a")
    ]
    submitted = {
        task.task_id: parse_timestamp(task.submitted_at)
        async for task in bus.durable.tasks(context_id=context)
    }
    for name, value in (("SKEW_SECONDS", 0.0), ("PAGE", 1), ("FIRST_WINDOW", 1)):
        monkeypatch.setattr(task_list, name, value)
    streams = bus.durable.store.streams
    read, last = streams.read, streams.last
    seen: set[str] = set()
    asked: set[str] = set()

    async def noted_read(stream: str, pattern: str, **options: Any) -> Page:
        page = await read(stream, pattern, **options)
        seen.update(message.subject.split(".")[3] for message in page.messages)
        return page

    async def noted_last(stream: str, *patterns: str) -> list[Stored]:
        asked.update(pattern.split(".")[3] for pattern in patterns)
        return await last(stream, *patterns)

    monkeypatch.setattr(streams, "read", noted_read)
    monkeypatch.setattr(streams, "last", noted_last)
    between = bus.durable.tasks(
        since=submitted[made[1]],
        until=submitted[made[4]],
        skill="a",
        latest_first=latest_first,
    )
    found = [task.task_id async for task in between]

    assert found == ([made[3], made[1]] if latest_first else [made[1], made[3]])
    # One beyond is read to know where the end is.
    assert seen == set(made[1:5])
    assert asked == set(found)


async def test_a_list_tells_who_had_a_task_that_was_ended_from_outside(house: House) -> None:
    await house.supervisor(cancel_grace_seconds=0.5)
    hands, bus = await house.hands(), await house.bus()
    options = {"delivery": "durable", "context_id": "from-outside"}
    waiting = await bus.submit("unwanted", "x", **options)  # type: ignore[arg-type]
    taken = await bus.submit("wanted", "x", **options)  # type: ignore[arg-type]
    stream = hands.begin(await hands.take("wanted", SETTINGS))
    await stream.claim()
    for task in (waiting, taken):
        async with asyncio.timeout(10):
            assert await task.cancel() is TaskState.CANCELED
    listed = [task async for task in bus.durable.tasks(context_id="from-outside")]
    assert [(task.agent, task.attempt) for task in listed] == [(None, 0), ("hands", 1)]


async def test_a_stream_is_taken_up_again_after_any_position(house: House) -> None:
    await house.supervisor()
    agent = Agent("reciter")

    @agent.skill
    async def count_up(text: str, *, ctx: Context) -> str:
        for number in range(20):
            await ctx.emit(f"{number} ")
            await ctx.status(f"at {number}")
        return "".join(f"{number} " for number in range(20))

    await house.serve(agent)
    bus = await house.bus()
    task = await bus.submit("count_up", "x", delivery="durable")
    heard, position = "", 0
    async for update in task:
        heard += _text(update)
        position = task.position
        # Others have been stored meanwhile, and were not given here yet.
        await (await house.bus()).durable.task(task.task_id).result()
        if len(heard) > 10:
            break
    rest = (await house.bus()).durable.task(task.task_id)
    async for update in rest.updates(after=position):
        heard += _text(update)
    # Nothing twice and nothing left out, whatever was stored together.
    assert heard == (await task.result()).text
    again = "".join([_text(update) async for update in rest.updates()])
    assert again == heard


def _text(update: object) -> str:
    if not isinstance(update, TaskArtifactUpdateEvent):
        return ""
    return "".join(str(part.text) for part in update.artifact.parts)
