"""A task whose log made room may fail again under its id, and what failed last is what counts."""

from __future__ import annotations

import time

import pytest

from dragoman_bus.client import Bus
from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.envelopes import Sender, client_source
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.subjects import log_subject
from tests.integration.durable.conftest import House

pytestmark = pytest.mark.anyio


async def fail(bus: Bus, words: str) -> None:
    """Submit the task ``again``, which nobody serves, and end it as failed."""
    await bus.submit("nobody", "text", task_id="again", delivery="durable", deadline=60)
    ending = Ending(TaskState.FAILED, error=error_object("AGENT_LOST", words))
    sender = Sender(client_source("tester"), time.time, new_identifier)
    log = await close_task(bus.durable.store, sender, "again", lambda _: ending)
    assert log.submission
    assert (await bus.durable.store.read("again")).task.state is TaskState.FAILED


async def test_a_task_whose_log_made_room_can_fail_again(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    letters = bus.durable.dead_letters
    await fail(bus, "first")
    await letters.drop("again")
    await bus.durable.store.streams.purge(LOG_STREAM, log_subject("again"))

    await fail(bus, "second")

    (letter,) = [one async for one in letters.all(settled=True)]
    assert (letter.data.error.message, letter.is_open) == ("second", True)
    await letters.drop("again")
    assert not (await letters.get("again")).is_open
