"""Messages that the queues give up: delivered too often, or terminated."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from dragoman_bus.durable.layout import QUEUE_STREAM, skill_queue
from dragoman_bus.protocol.errors import TaskFailed
from dragoman_bus.transports.streams import Pulled
from tests.integration.durable.conftest import SETTINGS, House

pytestmark = pytest.mark.anyio


async def test_a_message_that_was_delivered_too_often_ends_its_task(house: House) -> None:
    settings = msgspec.structs.replace(SETTINGS, maximum_deliveries=2)
    await house.supervisor(settings)
    hands, bus = await house.hands(), await house.bus()
    task = await bus.submit("poison", "x", delivery="durable")
    for _ in range(2):
        await (await hands.take("poison", settings)).reject()
    # The server notices when the message is wanted once more.
    puller = await bus.durable.store.streams.puller(
        QUEUE_STREAM, skill_queue("poison", "interactive"), _unexpected
    )
    puller.want(1)
    async with asyncio.timeout(20):
        with pytest.raises(TaskFailed, match="2 deliveries") as failure:
            await task.result()
    assert failure.value.code == "AGENT_LOST"
    letter = await bus.durable.dead_letters.get(task.task_id)
    assert letter.data.attempts == []
    await puller.close()


async def test_a_terminated_message_ends_its_task(house: House) -> None:
    await house.supervisor()
    hands, bus = await house.hands(), await house.bus()
    task = await bus.submit("unwanted", "x", delivery="durable")
    pulled = await hands.take("unwanted", SETTINGS)
    await pulled.terminate(task.task_id)
    async with asyncio.timeout(20):
        with pytest.raises(TaskFailed, match="terminated"):
            await task.result()


def _unexpected(pulled: Pulled) -> None:
    raise AssertionError(f"delivered again: {pulled.subject}")
