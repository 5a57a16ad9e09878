"""A task whose queue has it twice is run once: whoever comes upon it asks the one who has it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from dragoman_agents import Agent
from dragoman_bus.durable.layout import QUEUE_STREAM, stream_settings
from tests.integration.durable.conftest import SETTINGS, House

pytestmark = pytest.mark.anyio


def slow(seconds: float, begun: Callable[[], None]) -> Agent:
    agent = Agent("slow", concurrency=2)

    @agent.skill
    async def take_time(text: str) -> str:
        begun()
        await asyncio.sleep(seconds)
        return text

    return agent


async def test_a_task_that_was_queued_twice_is_left_to_the_worker_that_runs_it(
    house: House,
) -> None:
    await house.supervisor()
    bus = await house.bus()
    streams = (await house.transport()).streams()
    # The server remembers for two minutes what was queued; here, for less.
    (queue,) = (one for one in stream_settings(SETTINGS) if one.name == QUEUE_STREAM)
    await streams.ensure_stream(dataclasses.replace(queue, duplicate_window=0.1))
    for _ in range(3):
        task = await bus.submit(
            "take_time", "done", delivery="durable", task_id="twice", maximum_attempts=2
        )
        await asyncio.sleep(0.3)
    begun: list[int] = []
    for _ in range(3):
        await house.serve(slow(3 * SETTINGS.ack_wait, lambda: begun.append(1)))
    async with asyncio.timeout(30):
        assert (await task.result()).text == "done"
    assert len(begun) == 1
