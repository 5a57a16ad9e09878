"""Streams that do not answer: not made yet, or away for a while."""

from __future__ import annotations

from typing import Any

import pytest

from dragoman_bus.protocol.errors import BusUnavailable, NoResponders
from dragoman_bus.transports.nats.streams import JetStream
from dragoman_bus.transports.port import Delivery
from dragoman_bus.transports.streams import Record

pytestmark = pytest.mark.anyio

RECORD = Record(subject="a.b", data=b"{}")


class Server:
    """Answers as long as it is there."""

    max_payload = 1024
    is_there = True

    async def request(self, subject: str, data: bytes, **_: Any) -> Delivery:
        """One answer of a stream."""
        if not self.is_there:
            raise NoResponders(subject)
        return Delivery(subject, b'{"stream":"S","seq":7}')


async def test_a_stream_that_never_answered_has_to_be_made() -> None:
    server: Any = Server()
    server.is_there = False
    with pytest.raises(BusUnavailable, match="NOT_CONFIGURED") as error:
        await JetStream(server, server).append("S", RECORD)
    assert not error.value.retryable


async def test_a_stream_that_answered_before_comes_back() -> None:
    server: Any = Server()
    streams = JetStream(server, server)
    assert await streams.append("S", RECORD) == 7
    server.is_there = False
    with pytest.raises(BusUnavailable, match="does not answer now") as error:
        await streams.append("S", RECORD)
    assert error.value.retryable
