"""What waits for a slow reader is bounded, and what is left out is counted."""

from __future__ import annotations

import json

import pytest

from dragoman_bus.transports.memory import MemoryBroker
from dragoman_gateways.cli import tap as tapping
from dragoman_gateways.cli.output import console
from dragoman_gateways.cli.tap import Deliveries, tap
from dragoman_gateways.cli.validating import Judgement, Tally
from dragoman_gateways.cli.watching import Watcher

pytestmark = pytest.mark.anyio

SUBJECT = "dragoman.v1.skill.count.submit"


async def waiting(*sizes: int) -> Deliveries:
    """What a tap holds after messages of these sizes, which nobody has read yet."""
    transport = MemoryBroker().connect()
    async with tap(transport, [SUBJECT]) as deliveries:
        for size in sizes:
            await transport.publish(SUBJECT, bytes(size))
        await transport.flush()
    await transport.close()
    return deliveries


async def test_a_reader_that_is_fast_enough_misses_nothing() -> None:
    deliveries = await waiting(10, 20, 30)
    assert [len((await anext(deliveries)).data) for _ in range(3)] == [10, 20, 30]
    assert deliveries.missed == 0


async def test_what_there_is_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapping, "MAXIMUM_WAITING_BYTES", 10_000)
    deliveries = await waiting(6_000, 7_000, 1_000)
    assert [len((await anext(deliveries)).data) for _ in range(2)] == [6_000, 1_000]
    assert deliveries.missed == 1


async def test_room_that_was_read_is_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapping, "MAXIMUM_WAITING_BYTES", 10_000)
    transport = MemoryBroker().connect()
    async with tap(transport, [SUBJECT]) as deliveries:
        for _ in range(5):
            await transport.publish(SUBJECT, bytes(8_000))
            assert len((await anext(deliveries)).data) == 8_000
        assert deliveries.missed == 0
    await transport.close()


def test_a_tally_says_how_many_were_not_judged() -> None:
    tally = Tally()
    tally.add(Judgement(where=SUBJECT, type="dev.dragoman.task.submit", violations=[]))
    assert tally.verdict() == "1 message, 0 violations"
    tally.missed = 1200
    assert tally.verdict() == "1 message, 0 violations; 1,200 more came too fast to be judged"


def test_a_watcher_tells_what_it_missed_as_often_as_that_doubles(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watcher = Watcher(as_json=True)
    for missed in (0, 0, 3, 4, 5, 6, 6, 11, 12):
        watcher.missed(missed)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told == [{"event": "missed", "messages": number} for number in (3, 6, 12)]

    console.cache_clear()
    Watcher(as_json=False).missed(2)
    console.cache_clear()
    assert "2 messages came too fast to be shown" in capsys.readouterr().out
