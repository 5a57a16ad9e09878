"""Envelopes filled in: a sender that knows its name, and takes time and ids as arguments.

Spec: spec/model.md, envelope.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import UNSET

from dragoman_bus.protocol.messages import Envelope
from dragoman_bus.protocol.timestamps import format_timestamp
from dragoman_bus.protocol.traces import TraceContext
from dragoman_bus.protocol.versions import CURRENT_VERSION

__all__ = ["Sender", "agent_source", "client_source", "parse_source"]

Kind = TypeVar("Kind", bound=Envelope)


def agent_source(agent: str, instance: str) -> str:
    """The ``source`` of an agent's instance."""
    return f"/agents/{agent}/{instance}"


def client_source(client: str) -> str:
    """The ``source`` of a caller."""
    return f"/clients/{client}"


# Every message is asked for its sender, and senders are few.
@functools.lru_cache(maxsize=1024)
def parse_source(source: str) -> tuple[str, str] | None:
    """``(agent, instance)`` of an agent's source, or ``None`` for another sender's."""
    parts = source.split("/")
    if len(parts) == 4 and parts[0] == "" and parts[1] == "agents":
        return parts[2], parts[3]
    return None


class Sender:
    """Wraps data into envelopes.

    Args:
        source: The ``source`` attribute, from ``agent_source`` or ``client_source``.
        clock: Unix seconds now.
        identify: A fresh id, for messages whose id does not follow from their content.
    """

    def __init__(
        self, source: str, clock: Callable[[], float], identify: Callable[[], str]
    ) -> None:
        self.source = source
        self._clock = clock
        self._identify = identify

    def now(self) -> str:
        """The present moment as a timestamp."""
        return format_timestamp(self._clock())

    def wrap(
        self,
        kind: type[Kind],
        data: Any,
        *,
        id: str | None = None,
        trace: TraceContext | None = None,
    ) -> Kind:
        """An envelope of ``kind`` around ``data``, ready to encode."""
        return kind(
            specversion="1.0",
            id=id or self._identify(),
            source=self.source,
            time=format_timestamp(self._clock()),
            protocolversion=CURRENT_VERSION,
            traceparent=UNSET if trace is None else trace.traceparent,
            tracestate=UNSET if trace is None else trace.tracestate or UNSET,
            data=data,  # type: ignore[call-arg]
        )
