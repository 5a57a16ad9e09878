"""A worker that let go of a task writes nothing more, whatever was under way when it did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from dragoman_bus.durable.ending import Ending
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import Artifact, TaskState, text_part
from dragoman_bus.protocol.envelopes import Sender, agent_source
from dragoman_bus.service.log_stream import Fenced, LogStream
from tests.integration.durable.conftest import House

pytestmark = pytest.mark.anyio

LetGo = Callable[[LogStream], Awaitable[None]]
WAYS: dict[str, LetGo] = {
    "ends it": lambda stream: stream.end(Ending(TaskState.COMPLETED)),
    "asks": lambda stream: stream.status(TaskState.INPUT_REQUIRED),
    "gives it back": lambda stream: stream.retry(None),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_claim_that_waited_while_the_worker_let_go_comes_too_late(
    house: House, way: str
) -> None:
    await house.supervisor()
    bus = await house.bus()
    task = await bus.submit("nobody", "text", delivery="durable", deadline=30)
    store = bus.durable.store
    sender = Sender(agent_source("tester", "tester-1"), time.time, new_identifier)
    stream = LogStream(await store.read(task.task_id), store, sender, lambda: None)

    letting_go = asyncio.ensure_future(WAYS[way](stream))
    claim = asyncio.ensure_future(stream.claim())
    more = stream.artifact(Artifact(artifact_id="output", parts=[text_part("late")]), append=False)
    await letting_go
    last = (await store.read(task.task_id)).spine
    with pytest.raises(Fenced):
        await claim
    with pytest.raises(Fenced):
        await more
    with pytest.raises(Fenced):
        await stream.step("step", b"1")  # type: ignore[arg-type]

    log = await store.read(task.task_id)
    assert log.spine == last == log.position
    assert log.task.state is not TaskState.WORKING
