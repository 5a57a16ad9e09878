"""RFC 3339 timestamps in UTC, to and from Unix seconds; the clock itself is the caller's.

Spec: spec/model.md, envelope.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime

from dragoman_bus.protocol.errors import ProtocolError

__all__ = ["format_timestamp", "parse_timestamp"]


def format_timestamp(unix_seconds: float) -> str:
    """``unix_seconds`` as ``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""
    microseconds = round(unix_seconds * 1e6)
    second, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(second)}.{fraction:06d}Z"


# A busy sender formats one second thousands of times: 0.5 us instead of 1.7 us for a timestamp.
@functools.lru_cache(maxsize=16)
def _second(unix_second: int) -> str:
    # The offset of UTC is spelled "+00:00", six characters.
    return datetime.fromtimestamp(unix_second, UTC).isoformat()[:-6]


def parse_timestamp(text: str) -> float:
    """Unix seconds of an RFC 3339 timestamp that ends in ``Z``.

    Raises:
        ProtocolError: when ``text`` names no moment.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return _parse_unusual(text)


def _parse_unusual(text: str) -> float:
    # Leap seconds and nanoseconds are legal on the wire, and datetime knows neither.
    whole, _, fraction = text.rstrip("Z").partition(".")
    try:
        leap = whole.endswith(":60")
        moment = datetime.fromisoformat(whole[:-2] + "59" if leap else whole)
        seconds = moment.replace(tzinfo=UTC).timestamp() + leap
        return seconds + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        raise ProtocolError(f"{text[:64]!r} is not a moment in time") from None
