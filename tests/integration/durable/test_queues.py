"""Messages that the queues give up: delivered too often, terminated, or of a canceled task."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from dragoman_bus.client import Bus, DurableTask
from dragoman_bus.durable.layout import QUEUE_STREAM, skill_queue
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.errors import Overloaded, TaskFailed
from dragoman_bus.protocol.messages import TaskSubmit
from dragoman_bus.protocol.subjects import queue_subject
from dragoman_bus.service.log_stream import Fenced
from dragoman_bus.supervisor import vacating
from dragoman_bus.transports.streams import Pulled
from tests.integration.durable.conftest import SETTINGS, House
from tests.support.waiting import eventually

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


@pytest.mark.parametrize(
    ("skill", "near"), [("unserved", vacating.NEAR_SECONDS), ("further-off", -60.0)]
)
async def test_a_task_that_is_canceled_in_a_full_queue_makes_room_for_another(
    house: House, monkeypatch: pytest.MonkeyPatch, skill: str, near: float
) -> None:
    monkeypatch.setattr(vacating, "NEAR_SECONDS", near)
    monkeypatch.setattr(vacating, "PAGE", 1)
    settings = msgspec.structs.replace(SETTINGS, queue_tasks=3)
    await house.supervisor(settings)
    hands, bus, another = await house.hands(), await house.bus(), await house.bus()

    async def submit(bus: Bus) -> DurableTask:
        return await bus.submit(skill, "x", delivery="durable", retries=0)

    first, second, third = [await submit(bus) for _ in range(3)]
    with pytest.raises(Overloaded):
        await submit(bus)
    async with asyncio.timeout(20):
        assert await second.cancel() is TaskState.CANCELED
    await eventually(lambda: _is_queued(bus, skill, 2))
    fourth = await submit(another)
    taken = [await hands.take(skill, settings) for _ in range(3)]

    assert [_task_id(pulled) for pulled in taken] == [
        task.task_id for task in (first, third, fourth)
    ]


async def test_a_message_that_goes_while_a_worker_begins_harms_neither_it_nor_the_next(
    house: House,
) -> None:
    await house.supervisor()
    hands, bus = await house.hands(), await house.bus()
    canceled = await bus.submit("hasty", "x", delivery="durable")
    pulled = await hands.take("hasty", SETTINGS)
    async with asyncio.timeout(20):
        await canceled.cancel()
    await eventually(lambda: _is_queued(bus, "hasty", 0))

    with pytest.raises(Fenced):
        await hands.begin(pulled).claim()
    await pulled.progress()
    await pulled.reject()
    following = await bus.submit("hasty", "x", delivery="durable")
    async with asyncio.timeout(20):
        assert _task_id(await hands.take("hasty", SETTINGS)) == following.task_id


async def _is_queued(bus: Bus, skill: str, number: int) -> bool:
    """Whether the queue of a skill has so many messages."""
    subject = queue_subject(skill, "interactive")
    state = await bus.durable.store.streams.stream_state(QUEUE_STREAM, subjects=subject)
    return state is not None and state.subjects.get(subject, 0) == number


def _task_id(pulled: Pulled) -> str:
    message = decode(pulled.data)
    assert isinstance(message, TaskSubmit)
    return message.data.task_id


def _unexpected(pulled: Pulled) -> None:
    raise AssertionError(f"delivered again: {pulled.subject}")
