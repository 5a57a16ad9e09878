"""A task whose log made room may fail again under its id, and what failed last is what counts."""

from __future__ import annotations

import time

import pytest

from dragoman_bus.client import Bus
from dragoman_bus.client.dead_letters import DeadLetter, DeadLetters
from dragoman_bus.durable.closing import close_task
from dragoman_bus.durable.ending import Ending
from dragoman_bus.durable.layout import LOG_STREAM
from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol.a2a import TaskState
from dragoman_bus.protocol.envelopes import Sender, client_source
from dragoman_bus.protocol.error_objects import error_object
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.subjects import dead_letter_subject, log_subject
from dragoman_bus.transports.streams import Record
from tests.integration.durable.conftest import House

pytestmark = pytest.mark.anyio


async def fail(bus: Bus, words: str, task_id: str = "again") -> None:
    """Submit a task, which nobody serves, and end it as failed."""
    await bus.submit("nobody", "text", task_id=task_id, delivery="durable", deadline=60)
    ending = Ending(TaskState.FAILED, error=error_object("AGENT_LOST", words))
    sender = Sender(client_source("tester"), time.time, new_identifier)
    log = await close_task(bus.durable.store, sender, task_id, lambda _: ending)
    assert log.submission
    assert (await bus.durable.store.read(task_id)).task.state is TaskState.FAILED


async def listed(letters: DeadLetters, task_id: str) -> list[DeadLetter]:
    """What a list of all dead letters has of one task."""
    found = [one async for one in letters.all(settled=True)]
    return [one for one in found if one.data.submission.task_id == task_id]


async def test_a_task_whose_log_made_room_can_fail_again(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    letters = bus.durable.dead_letters
    await fail(bus, "first")
    await letters.drop("again")
    await bus.durable.store.streams.purge(LOG_STREAM, log_subject("again"))

    await fail(bus, "second")

    (letter,) = await listed(letters, "again")
    assert (letter.data.error.message, letter.is_open) == ("second", True)
    await letters.drop("again")
    assert not (await letters.get("again")).is_open


async def test_a_reason_too_long_for_a_message_is_cut_and_the_letter_is_settled(
    house: House,
) -> None:
    await house.supervisor()
    bus = await house.bus()
    letters = bus.durable.dead_letters
    await fail(bus, "first", "argued")
    await letters.drop("argued", reason="because " * 1000)
    (letter,) = await listed(letters, "argued")
    assert letter.settlement is not None
    assert letter.settlement.reason == ("because " * 1000)[:1024]


async def test_what_is_no_message_after_a_letter_hides_neither_it_nor_the_others(
    house: House,
) -> None:
    await house.supervisor()
    bus = await house.bus()
    letters = bus.durable.dead_letters
    await fail(bus, "first", "littered")
    junk = Record(subject=dead_letter_subject("nobody", "littered"), data=b"{junk")
    await bus.durable.store.streams.append(LOG_STREAM, junk)
    assert "littered" in [one.data.submission.task_id async for one in letters.all()]
    await letters.drop("littered")
    assert not (await letters.get("littered")).is_open


async def test_a_letter_is_not_redriven_to_what_is_no_name(house: House) -> None:
    await house.supervisor()
    bus = await house.bus()
    await fail(bus, "first", "named")
    with pytest.raises(ProtocolError, match="agent"):
        await bus.durable.dead_letters.redrive("named", agent="Not A Name")
    assert (await bus.durable.dead_letters.get("named")).is_open
