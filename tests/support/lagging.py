"""A connection whose reads are answered by a node of a cluster that is behind."""

from __future__ import annotations

import time
from typing import Any

from dragoman_bus.transports.port import Transport
from dragoman_bus.transports.streams import Page, Stored

__all__ = ["behind"]


def behind(transport: Transport, seconds: float) -> None:
    """Let every read of a connection be answered by a node that is so far behind."""
    streams = transport.streams()
    read, last = streams.read, streams.last

    def known(messages: list[Stored]) -> list[Stored]:
        return [message for message in messages if message.time < time.time() - seconds]

    async def read_behind(stream: str, pattern: str, **options: Any) -> Page:
        page = await read(stream, pattern, **options)
        return Page(known(page.messages), page.more)

    async def last_behind(stream: str, *patterns: str) -> list[Stored]:
        return known(await last(stream, *patterns))

    streams.read, streams.last = read_behind, last_behind  # type: ignore[method-assign]
