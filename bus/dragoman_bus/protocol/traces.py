"""W3C Trace Context as messages carry it.

Spec: spec/model.md, envelope.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["TraceContext", "parse_trace"]

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")


class TraceContext(NamedTuple):
    """``traceparent`` and perhaps ``tracestate``, in the form of their HTTP headers."""

    traceparent: str
    tracestate: str | None = None

    def headers(self) -> dict[str, str]:
        """As HTTP headers, for calls made on behalf of a task."""
        told = {"traceparent": self.traceparent, "tracestate": self.tracestate}
        return {name: value for name, value in told.items() if value}


def parse_trace(traceparent: str, tracestate: str | None = None) -> TraceContext | None:
    """What somebody sent; ``None`` when its ``traceparent`` is not one of version 00."""
    if not _TRACEPARENT.fullmatch(traceparent):
        return None
    fits = tracestate is not None and _TRACESTATE.fullmatch(tracestate)
    return TraceContext(traceparent, tracestate if fits else None)
