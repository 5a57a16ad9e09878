"""Free slots and the queues they are filled from."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dragoman_bus.service import filling
from dragoman_bus.service.filling import Filling

pytestmark = pytest.mark.anyio


class Queue:
    """A queue that notes how much is wanted of it."""

    def __init__(self, name: str) -> None:
        self.queue = name
        self.wanted = 0
        self.told = 0

    def want(self, number: int) -> None:
        """Note it."""
        self.wanted = number
        self.told += 1

    async def close(self) -> None:
        """Nothing is under way."""


class Message:
    """A message that notes that it was sent back."""

    def __init__(self) -> None:
        self.returned = asyncio.Event()

    async def reject(self, *, delay: float = 0.0) -> None:
        """Note it."""
        self.returned.set()


class Slots:
    """Slots with their queues; what has begun takes one until it ends."""

    def __init__(self, slots: int, *names: str) -> None:
        self.free = slots
        self.begun: list[Any] = []
        self.queues = [Queue(name) for name in names]
        self.filling = Filling(lambda: self.free, self._begin)
        for queue in self.queues:
            made: Any = queue
            self.filling.add(made)
        self.filling.fill()

    @property
    def wanted(self) -> list[int]:
        """By queue."""
        return [queue.wanted for queue in self.queues]

    def receive(self, *messages: Any) -> None:
        """Let messages arrive."""
        for message in messages:
            self.filling.receive(message)

    def end_one(self) -> None:
        """A task ends."""
        self.free += 1
        self.filling.fill()

    def _begin(self, message: Any) -> None:
        self.free -= 1
        self.begun.append(message)


async def test_queues_share_the_free_slots_and_each_is_asked_for_one_at_least() -> None:
    assert Slots(8, "a", "b").wanted == [4, 4]
    assert Slots(2, "a", "b", "c").wanted == [1, 1, 1]


async def test_nothing_is_wanted_while_no_slot_is_free() -> None:
    slots = Slots(1, "a", "b")
    slots.receive(Message())
    assert slots.wanted == [0, 0]
    slots.end_one()
    assert slots.wanted == [1, 1]


async def test_queues_are_told_only_what_changes_for_them() -> None:
    slots = Slots(8, "a", "b")
    slots.free = 9
    slots.filling.fill()
    assert [queue.told for queue in slots.queues] == [1, 1]
    slots.end_one()
    assert slots.wanted == [5, 5]


async def test_queues_are_told_again_after_one_brought_something() -> None:
    slots = Slots(9, "a", "b")
    slots.receive(Message())
    assert slots.wanted == [4, 4]
    assert [queue.told for queue in slots.queues] == [2, 2]


async def test_what_is_too_much_is_begun_when_a_slot_is_free_again() -> None:
    slots = Slots(1, "a", "b")
    first, second = Message(), Message()
    slots.receive(first, second)
    assert slots.begun == [first]
    slots.end_one()
    assert slots.begun == [first, second]
    assert not second.returned.is_set()


async def test_what_waits_too_long_for_a_slot_goes_to_another_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filling, "HOLD_SECONDS", 0.01)
    slots = Slots(1, "a", "b")
    second = Message()
    slots.receive(Message(), second)
    await second.returned.wait()
    slots.end_one()
    assert len(slots.begun) == 1


async def test_queues_are_asked_one_after_the_other_once_too_much_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = Slots(1, "a", "b", "c")
    slots.receive(Message(), Message())
    slots.end_one()
    monkeypatch.setattr(filling, "STAGGER_SECONDS", 3600)
    slots.end_one()
    assert sorted(slots.wanted) == [0, 0, 1]


async def test_every_queue_has_its_turn_to_be_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "STAGGER_SECONDS", 3600)
    slots = Slots(1, "a-interactive", "a-batch", "b-interactive", "b-batch")
    slots.receive(Message(), Message())
    slots.end_one()
    first = []
    for _ in range(12):
        slots.end_one()
        first.append(next(queue.queue for queue in slots.queues if queue.wanted))
        slots.receive(Message())
    assert set(first) == {queue.queue for queue in slots.queues}
    assert first.count("a-interactive") > first.count("a-batch")


async def test_closing_sends_back_what_has_not_begun() -> None:
    slots = Slots(1, "a", "b")
    second = Message()
    slots.receive(Message(), second)
    await slots.filling.close()
    assert second.returned.is_set()
