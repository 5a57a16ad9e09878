"""Events at a listener: named by their bodies, bounded, and counted when they are lost."""

from __future__ import annotations

import json

import pytest

from dragoman_bus import Bus
from dragoman_bus.client.events import EVENT_BUFFER
from tests.conformance.caller_rules.documents import Documents
from tests.conftest import MakeTransport

pytestmark = pytest.mark.anyio


def event(number: int, *, topic: str = "news", name: str = "arrived") -> bytes:
    data = {"topic": topic, "event": name, "payload": number}
    return json.dumps(Documents("a", "a-1").envelope("bus.event", data)).encode()


async def test_topic_and_event_are_those_of_the_body(make_transport: MakeTransport) -> None:
    publisher = await make_transport()
    async with Bus(await make_transport()) as bus, bus.listen("news") as events:
        body = event(1, topic="other", name="left")
        await publisher.publish("dragoman.v1.bus.news.arrived", body)
        heard = await anext(events)

    assert (heard.data.topic, heard.data.event) == ("other", "left")


async def test_a_slow_listener_loses_the_oldest_and_knows_how_many(
    make_transport: MakeTransport,
) -> None:
    publisher = await make_transport()
    async with Bus(await make_transport()) as bus, bus.listen("news") as events:
        for body in (b"junk", event(0).replace(b"bus.event", b"task.get")):
            await publisher.publish("dragoman.v1.bus.news.arrived", body)
        for number in range(EVENT_BUFFER + 10):
            await publisher.publish("dragoman.v1.bus.news.arrived", event(number))
        await publisher.flush()
        await bus.transport.flush()

        assert (events.dropped, events.invalid) == (10, 2)
        assert json.loads(bytes((await anext(events)).data.payload)) == 10
