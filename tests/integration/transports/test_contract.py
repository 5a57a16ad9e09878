"""The contract of a transport: what every implementation does, tried on each of them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter

import pytest

from dragoman_bus.protocol.errors import (
    BusUnavailable,
    NoResponders,
    PayloadTooLarge,
    ProtocolError,
    RequestTimeout,
    RevisionConflict,
)
from dragoman_bus.transports.port import BucketSettings, Change, Delivery, KeyValue, Transport
from tests.conftest import MakeTransport
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

_names = itertools.count(1)


@pytest.fixture
def subject() -> str:
    """A subject no other test uses."""
    return f"test.contract-{next(_names)}"


@pytest.fixture
async def bucket(transport: Transport) -> KeyValue:
    """An empty bucket."""
    return await transport.key_value(f"contract_{next(_names)}")


async def echo(transport: Transport, subject: str) -> None:
    """Answer requests with their own data."""
    answers: set[asyncio.Task[None]] = set()

    def answer(delivery: Delivery) -> None:
        task = asyncio.ensure_future(transport.publish(delivery.reply, delivery.data))
        answers.add(task)
        task.add_done_callback(answers.discard)

    await transport.subscribe(subject, answer)


async def test_a_message_reaches_every_subscriber_with_all_its_parts(
    make_transport: MakeTransport, subject: str
) -> None:
    publisher, reader, other = [await make_transport() for _ in range(3)]
    received: list[Delivery] = []
    await reader.subscribe(subject, received.append)
    await other.subscribe(subject, received.append)
    await publisher.publish(subject, b"\x00\xff", reply="inbox.1", headers={"Name": "Välue: 1"})
    await eventually(lambda: len(received) == 2)
    expected = Delivery(subject, b"\x00\xff", "inbox.1", {"Name": "Välue: 1"})
    for delivery in received:
        assert (delivery.subject, delivery.data) == (expected.subject, expected.data)
        assert (delivery.reply, delivery.headers) == (expected.reply, expected.headers)
        assert not delivery.no_responders


async def test_a_subscription_is_known_to_the_server_when_subscribe_returns(
    make_transport: MakeTransport, subject: str
) -> None:
    publisher, reader = await make_transport(), await make_transport()
    received: list[Delivery] = []
    for number in range(20):
        await reader.subscribe(f"{subject}.{number}", received.append)
        await publisher.publish(f"{subject}.{number}", b"")
    await eventually(lambda: len(received) == 20)


async def test_messages_of_one_publisher_arrive_in_order(
    make_transport: MakeTransport, subject: str
) -> None:
    publisher, reader = await make_transport(), await make_transport()
    received: list[bytes] = []
    await reader.subscribe(subject, lambda delivery: received.append(delivery.data))
    sent = [str(number).encode() for number in range(2000)]
    for data in sent:
        await publisher.publish(subject, data)
    await eventually(lambda: len(received) == len(sent))
    assert received == sent


async def test_messages_arrive_in_order_across_the_subscriptions_of_one_reader(
    make_transport: MakeTransport, subject: str
) -> None:
    publisher, reader = await make_transport(), await make_transport()
    received: list[str] = []
    await reader.subscribe(f"{subject}.a", lambda delivery: received.append(delivery.subject))
    await reader.subscribe(f"{subject}.b", lambda delivery: received.append(delivery.subject))
    sent = [f"{subject}.{'ab'[number % 2]}" for number in range(100)]
    for one in sent:
        await publisher.publish(one, b"")
    await eventually(lambda: len(received) == len(sent))
    assert received == sent


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("{s}.*", "{s}.a", "{s}.a.b"),
        ("{s}.*.c", "{s}.b.c", "{s}.c"),
        ("{s}.>", "{s}.a.b.c", "{s}"),
    ],
)
async def test_wildcards_match_one_token_or_the_rest(
    transport: Transport, subject: str, pattern: str, matching: str, other: str
) -> None:
    received: list[str] = []
    await transport.subscribe(pattern.format(s=subject), lambda d: received.append(d.subject))
    await transport.publish(other.format(s=subject), b"")
    await transport.publish(matching.format(s=subject), b"")
    await eventually(lambda: received)
    assert received == [matching.format(s=subject)]


async def test_each_message_reaches_one_member_of_each_queue_group(
    make_transport: MakeTransport, subject: str
) -> None:
    publisher = await make_transport()
    counts: Counter[str] = Counter()

    async def join(member: str, group: str) -> None:
        reader = await make_transport()
        await reader.subscribe(subject, lambda _: counts.update([member]), queue=group)

    for member, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        await join(member, group)
    for _ in range(200):
        await publisher.publish(subject, b"")
    await eventually(lambda: counts.total() == 400)
    assert counts["b1"] == 200
    assert counts["a1"] > 0
    assert counts["a2"] > 0


async def test_a_request_returns_its_own_answer_among_many(
    make_transport: MakeTransport, subject: str
) -> None:
    caller, service = await make_transport(), await make_transport()
    await echo(service, subject)
    sent = [str(number).encode() for number in range(200)]
    answers = await asyncio.gather(*(caller.request(subject, data, timeout=5) for data in sent))
    assert [answer.data for answer in answers] == sent


async def test_a_request_without_subscriber_fails_at_once(
    transport: Transport, subject: str
) -> None:
    with pytest.raises(NoResponders, match=subject):
        await transport.request(subject, b"", timeout=60)


async def test_a_message_with_a_reply_and_no_subscriber_is_answered_by_the_server(
    transport: Transport,
) -> None:
    received: list[Delivery] = []
    inbox = transport.new_inbox()
    await transport.subscribe(inbox, received.append)
    await transport.publish("nobody.is.here", b"data", reply=inbox)
    await eventually(lambda: received)
    assert received[0].no_responders
    assert received[0].data == b""


async def test_a_request_without_answer_times_out(transport: Transport, subject: str) -> None:
    await transport.subscribe(subject, lambda _: None)
    with pytest.raises(RequestTimeout, match=subject):
        await transport.request(subject, b"", timeout=0.05)


async def test_a_handler_that_raises_keeps_its_subscription_and_is_counted(
    transport: Transport, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[bytes] = []

    def handler(delivery: Delivery) -> None:
        received.append(delivery.data)
        if delivery.data == b"bad":
            raise ValueError("cannot handle it")

    await transport.subscribe(subject, handler)
    with caplog.at_level(logging.ERROR):
        for data in (b"bad", b"bad", b"good"):
            await transport.publish(subject, data)
        await eventually(lambda: b"good" in received)
    assert transport.statistics.handler_errors == 2
    assert len([record for record in caplog.records if subject in record.getMessage()]) == 1


async def test_a_message_as_large_as_the_limit_passes_and_a_larger_one_is_refused(
    transport: Transport, subject: str
) -> None:
    received: list[int] = []
    await transport.subscribe(subject, lambda delivery: received.append(len(delivery.data)))
    await transport.publish(subject, bytes(transport.max_payload))
    await eventually(lambda: received == [transport.max_payload])
    with pytest.raises(PayloadTooLarge, match=str(transport.max_payload)):
        await transport.publish(subject, bytes(transport.max_payload + 1))
    assert transport.connected


async def test_headers_count_towards_the_payload_limit(transport: Transport, subject: str) -> None:
    with pytest.raises(PayloadTooLarge):
        await transport.publish(subject, bytes(transport.max_payload), headers={"A": "b"})
    await transport.flush()
    assert transport.statistics.disconnects == 0


@pytest.mark.parametrize("wrong", ["", "a b", "a\r\nPUB b", "a..b", "a.>.b", "a*"])
async def test_a_malformed_subject_cannot_be_subscribed_to(
    transport: Transport, wrong: str
) -> None:
    with pytest.raises(ProtocolError):
        await transport.subscribe(wrong, lambda _: None)


@pytest.mark.parametrize("wrong", ["", "a b", "a\r\nPUB b"])
async def test_a_malformed_subject_cannot_be_published_to(transport: Transport, wrong: str) -> None:
    with pytest.raises(ProtocolError):
        await transport.publish(wrong, b"")


async def test_nothing_arrives_after_unsubscribe(transport: Transport, subject: str) -> None:
    received: list[Delivery] = []
    subscription = await transport.subscribe(subject, received.append)
    await subscription.unsubscribe()
    await subscription.unsubscribe()
    with pytest.raises(NoResponders):
        await transport.request(subject, b"", timeout=5)
    assert received == []


async def test_draining_a_subscription_handles_every_message_that_was_accepted(
    make_transport: MakeTransport, subject: str
) -> None:
    publisher, leaving, staying = [await make_transport() for _ in range(3)]
    handled: list[bytes] = []
    subscription = await leaving.subscribe(
        subject, lambda delivery: handled.append(delivery.data), queue="group"
    )
    await staying.subscribe(subject, lambda delivery: handled.append(delivery.data), queue="group")

    async def publish_all() -> None:
        for number in range(3000):
            await publisher.publish(subject, str(number).encode())
            if number % 50 == 0:
                await asyncio.sleep(0)

    publishing = asyncio.create_task(publish_all())
    await eventually(lambda: len(handled) > 100)
    await subscription.drain()
    await publishing
    await eventually(lambda: len(handled) == 3000)
    assert len(set(handled)) == 3000


async def test_draining_a_transport_sends_what_is_buffered_and_closes(
    make_transport: MakeTransport, subject: str
) -> None:
    leaving, reader = await make_transport(), await make_transport()
    received: list[Delivery] = []
    await reader.subscribe(subject, received.append)
    for _ in range(100):
        await leaving.publish(subject, b"")
    await leaving.drain()
    await eventually(lambda: len(received) == 100)
    assert not leaving.connected
    with pytest.raises(BusUnavailable):
        await leaving.publish(subject, b"")


async def test_a_closed_transport_refuses_work_and_fails_what_waits(
    make_transport: MakeTransport, subject: str
) -> None:
    transport = await make_transport()
    await transport.subscribe(subject, lambda _: None)
    waiting = asyncio.create_task(transport.request(subject, b"", timeout=60))
    await transport.flush()
    await transport.close()
    await transport.close()
    with pytest.raises(BusUnavailable):
        await waiting
    with pytest.raises(BusUnavailable):
        await transport.subscribe(subject, lambda _: None)
    with pytest.raises(BusUnavailable):
        await transport.request(subject, b"", timeout=1)
    with pytest.raises(BusUnavailable):
        await transport.flush()
    with pytest.raises(BusUnavailable):
        await transport.key_value("closed")


async def test_inboxes_differ(make_transport: MakeTransport) -> None:
    first, second = await make_transport(), await make_transport()
    assert len({t.new_inbox() for t in (first, second) for _ in range(100)}) == 200


async def test_a_flush_that_is_canceled_does_no_harm(transport: Transport, subject: str) -> None:
    for _ in range(5):
        flushing = asyncio.create_task(transport.flush())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.wait({flushing})
    await echo(transport, subject)
    assert (await transport.request(subject, b"alive", timeout=5)).data == b"alive"
    assert transport.statistics.disconnects == 0


async def test_a_value_is_read_back_at_its_revision(bucket: KeyValue) -> None:
    first = await bucket.put("card.a", b"one")
    second = await bucket.put("card.a", b"two")
    entry = await bucket.get("card.a")
    assert entry is not None
    assert (entry.key, entry.value, entry.revision) == ("card.a", b"two", second)
    assert second > first > 0


async def test_an_absent_key_has_no_entry(bucket: KeyValue) -> None:
    assert await bucket.get("absent") is None
    assert await bucket.entries() == []


async def test_a_write_succeeds_only_at_the_expected_revision(bucket: KeyValue) -> None:
    first = await bucket.put("key", b"1", expected_revision=0)
    second = await bucket.put("key", b"2", expected_revision=first)
    for wrong in (0, first, second + 1):
        with pytest.raises(RevisionConflict):
            await bucket.put("key", b"3", expected_revision=wrong)
    entry = await bucket.get("key")
    assert entry is not None
    assert entry.value == b"2"


async def test_of_many_that_create_a_key_exactly_one_succeeds(bucket: KeyValue) -> None:
    results = await asyncio.gather(
        *(bucket.put("key", str(n).encode(), expected_revision=0) for n in range(20)),
        return_exceptions=True,
    )
    assert len([result for result in results if isinstance(result, int)]) == 1
    assert len([result for result in results if isinstance(result, RevisionConflict)]) == 19


async def test_an_expired_value_is_gone_and_its_key_can_be_created_again(bucket: KeyValue) -> None:
    stale = await bucket.put("inst.a", b"1", ttl=0.5, expected_revision=0)
    await bucket.put("inst.b", b"1", ttl=60)

    async def expired() -> bool:
        return await bucket.get("inst.a") is None

    await eventually(expired)
    assert [entry.key for entry in await bucket.entries()] == ["inst.b"]
    with pytest.raises(RevisionConflict):
        await bucket.put("inst.a", b"2", expected_revision=stale)
    assert await bucket.put("inst.a", b"3", ttl=60, expected_revision=0) > stale


async def test_a_renewed_value_lives_on(bucket: KeyValue) -> None:
    revision = await bucket.put("inst.a", b"1", ttl=1)
    await bucket.put("inst.b", b"1", ttl=1)
    await bucket.put("inst.a", b"2", ttl=60, expected_revision=revision)

    async def other_expired() -> bool:
        return await bucket.get("inst.b") is None

    await eventually(other_expired)
    entry = await bucket.get("inst.a")
    assert entry is not None
    assert entry.value == b"2"


async def test_a_deleted_key_is_absent_and_can_be_created_again(bucket: KeyValue) -> None:
    revision = await bucket.put("key", b"1")
    with pytest.raises(RevisionConflict):
        await bucket.delete("key", expected_revision=revision + 1)
    await bucket.delete("key", expected_revision=revision)
    assert await bucket.get("key") is None
    assert await bucket.entries() == []
    await bucket.put("key", b"2", expected_revision=0)


async def test_entries_are_those_that_match_in_the_order_of_their_writes(bucket: KeyValue) -> None:
    for key in ("inst.a.1", "inst.b.1", "card.a", "inst.a.2", "inst.b.1"):
        await bucket.put(key, key.encode())
    await bucket.delete("inst.a.2")
    assert [entry.key for entry in await bucket.entries()] == ["inst.a.1", "card.a", "inst.b.1"]
    assert [entry.key for entry in await bucket.entries("inst.*.*")] == ["inst.a.1", "inst.b.1"]
    assert [entry.value for entry in await bucket.entries("card.>")] == [b"card.a"]
    assert await bucket.entries("other.>") == []


async def test_thousands_of_entries_are_read_completely(bucket: KeyValue) -> None:
    keys = [f"inst.a.{number}" for number in range(2500)]
    for first in range(0, len(keys), 250):
        await asyncio.gather(*(bucket.put(key, b"x") for key in keys[first : first + 250]))
    assert sorted(entry.key for entry in await bucket.entries("inst.>")) == sorted(keys)


async def test_a_watcher_sees_writes_and_deletions_of_matching_keys(
    make_transport: MakeTransport,
) -> None:
    name = f"contract_{next(_names)}"
    writer = await (await make_transport()).key_value(name)
    reader = await (await make_transport()).key_value(name, settings=BucketSettings(create=False))
    changes: list[Change] = []
    watch = await reader.watch("inst.>", changes.append)
    await writer.put("card.a", b"not watched")
    await writer.put("inst.a", b"1", ttl=60)
    await writer.delete("inst.a")
    await eventually(lambda: len(changes) == 2)
    assert changes == [Change("inst.a", b"1"), Change("inst.a", None)]
    await watch.unsubscribe()
    await writer.put("inst.a", b"2")
    assert len(changes) == 2


@pytest.mark.parametrize("wrong", ["", "a b", "a.*", "a.>", ".a", "a.", "a..b", "ä"])
async def test_a_malformed_key_is_refused(bucket: KeyValue, wrong: str) -> None:
    with pytest.raises(ProtocolError):
        await bucket.put(wrong, b"")
    with pytest.raises(ProtocolError):
        await bucket.get(wrong)


async def test_a_bucket_that_must_exist_and_does_not_is_an_error(transport: Transport) -> None:
    async def use() -> None:
        bucket = await transport.key_value("absent_bucket", settings=BucketSettings(create=False))
        await bucket.put("key", b"")

    with pytest.raises(BusUnavailable, match="absent_bucket"):
        await use()


async def test_opening_a_bucket_twice_at_once_gives_the_same_bucket(transport: Transport) -> None:
    name = f"contract_{next(_names)}"
    first, second = await asyncio.gather(transport.key_value(name), transport.key_value(name))
    await first.put("key", b"1")
    assert await second.get("key") is not None
