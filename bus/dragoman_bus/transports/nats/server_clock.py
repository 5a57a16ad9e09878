"""What time it is at the server, and which values it should have removed by now.

A nats-server that was killed may restore values whose time to live was over, and then keep them
for ever (seen on 2.15.1): the wheel of expiries is read from a file in which they are done with.
Both times come from the server, so nobody's clock has to be right.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dragoman_bus.protocol.timestamps import parse_timestamp
from dragoman_bus.transports.port import Delivery

__all__ = ["OUTLIVED_GRACE_SECONDS", "ServerClock"]

OUTLIVED_GRACE_SECONDS = 1.0
"""The server removes a value up to this late, and the clocks of a cluster's nodes differ."""


class ServerClock:
    """A lower bound of the server's time, from the times in what it sent.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ahead = float("-inf")

    def set(self, stamp: str) -> None:
        """The server says that it is ``stamp`` (RFC 3339) now; an empty one says nothing."""
        if stamp:
            self._ahead = parse_timestamp(stamp) - self._clock()

    def observe(self, delivery: Delivery) -> None:
        """It is at least as late as when this message was stored."""
        stored = _stored(delivery)
        if stored is not None:
            self._ahead = max(self._ahead, stored - self._clock())

    def has_outlived(self, delivery: Delivery) -> bool:
        """Whether the time to live of a stored message is over, though the server sent it."""
        lives = _seconds_to_live(delivery)
        stored = None if lives is None else _stored(delivery)
        if lives is None or stored is None:
            return False
        return self._clock() + self._ahead > stored + lives + OUTLIVED_GRACE_SECONDS


def _stored(delivery: Delivery) -> float | None:
    stamp = (delivery.headers or {}).get("Nats-Time-Stamp")
    return parse_timestamp(stamp) if stamp else None


def _seconds_to_live(delivery: Delivery) -> float | None:
    text = (delivery.headers or {}).get("Nats-TTL", "")
    # Writers may also use "5m" or "never"; those values are left to the server.
    return float(text) if text.isdecimal() else None
