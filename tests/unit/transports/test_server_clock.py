"""Values that a server should have removed, told from those that live."""

from __future__ import annotations

import pytest

from dragoman_bus.transports.nats.server_clock import OUTLIVED_GRACE_SECONDS, ServerClock
from dragoman_bus.transports.port import Delivery

LEASE = {"Nats-Time-Stamp": "2026-11-28T12:00:00.000000001Z", "Nats-TTL": "10"}


class Ticks:
    """Monotonic seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def stored(**headers: str) -> Delivery:
    """A stored message as a direct get sends it."""
    return Delivery("x", b"", headers=LEASE | {k.replace("_", "-"): v for k, v in headers.items()})


def test_a_value_lives_as_long_as_the_server_says_and_a_little_longer() -> None:
    ticks = Ticks()
    clock = ServerClock(ticks)
    clock.set("2026-11-28T12:00:08Z")
    assert not clock.has_outlived(stored())
    ticks.now += 2 + OUTLIVED_GRACE_SECONDS - 0.1
    assert not clock.has_outlived(stored())
    ticks.now += 0.2
    assert clock.has_outlived(stored())


def test_a_later_message_proves_that_an_earlier_value_is_outlived() -> None:
    clock = ServerClock(Ticks())
    clock.observe(stored())
    assert not clock.has_outlived(stored())
    clock.observe(stored(Nats_Time_Stamp="2026-11-28T12:00:12Z"))
    clock.observe(stored())
    assert clock.has_outlived(stored())


def test_the_server_may_set_its_clock_back() -> None:
    clock = ServerClock(Ticks())
    clock.set("2026-11-28T13:00:00Z")
    assert clock.has_outlived(stored())
    clock.set("2026-11-28T12:00:05Z")
    clock.set("")
    assert not clock.has_outlived(stored())


@pytest.mark.parametrize("lives", ["never", "5m", "", "-3"])
def test_a_time_to_live_that_is_no_number_of_seconds_is_left_to_the_server(lives: str) -> None:
    clock = ServerClock(Ticks())
    clock.set("2026-11-29T12:00:00Z")
    assert not clock.has_outlived(stored(Nats_TTL=lives))


def test_who_knows_no_time_takes_every_value_for_alive() -> None:
    assert not ServerClock(Ticks()).has_outlived(stored())
    clock = ServerClock(Ticks())
    clock.set("2026-11-29T12:00:00Z")
    assert not clock.has_outlived(Delivery("x", b"", headers={"Nats-TTL": "1"}))
