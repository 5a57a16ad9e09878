"""What only a real NATS server can show: loss of the connection, limits, logins, permissions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dragoman_bus.protocol.errors import (
    BusUnavailable,
    NoResponders,
    NotConfigured,
    RequestTimeout,
)
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import NatsOptions, NatsTransport
from dragoman_bus.transports.nats.sockets import DispatchingTransport
from dragoman_bus.transports.port import BucketSettings, Delivery
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

Connect = Callable[[NatsOptions], Awaitable[NatsTransport]]

FAST = NatsOptions(reconnect_delay=0.02, reconnect_delay_limit=0.2, connect_timeout=2.0)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects, and closes at the end of the test."""
    transports: list[NatsTransport] = []

    async def connect_with(options: NatsOptions) -> NatsTransport:
        transports.append(await NatsTransport.connect(options))
        return transports[-1]

    yield connect_with
    for transport in transports:
        await transport.close()


def options_for(server: NatsServer) -> NatsOptions:
    """Options that reconnect fast."""
    return replace(FAST, servers=(server.url,))


@pytest.mark.parametrize("crash", [False, True])
async def test_after_a_restart_or_a_crash_of_the_server_everything_works_again(
    nats_server: NatsServer, connect: Connect, crash: bool
) -> None:
    reader = await connect(options_for(nats_server))
    writer = await connect(options_for(nats_server))
    received: list[bytes] = []
    await reader.subscribe("again.*", lambda delivery: received.append(delivery.data), queue="q")
    bucket = await writer.key_value("again")
    revision = await bucket.put("key", b"kept")
    came_back: list[str] = []
    reader.add_reconnect_listener(lambda: came_back.append("reader"))
    remove = writer.add_reconnect_listener(lambda: came_back.append("never"))
    remove()
    if crash:
        nats_server.kill()
        await nats_server.start_async()
    else:
        await nats_server.restart_async()
    await asyncio.gather(reader.flush(), writer.flush())
    await writer.publish("again.1", b"after")
    await eventually(lambda: received == [b"after"])
    entry = await bucket.get("key")
    assert entry is not None
    assert entry.revision == revision
    assert came_back == ["reader"]
    assert (reader.statistics.disconnects, reader.statistics.reconnects) == (1, 1)


async def test_a_value_that_a_killed_server_restores_after_its_time_is_absent(
    nats_server: NatsServer, connect: Connect
) -> None:
    transport = await connect(options_for(nats_server))
    bucket = await transport.key_value("ghosts", settings=BucketSettings(marker_seconds=1))
    await bucket.put("kept", b"value")
    await bucket.put("gone", b"value", ttl=1)
    # Once the server has removed its own mark of the expiry as well, a crash brings the value back.
    last = "$JS.API.DIRECT.GET.KV_ghosts.$KV.ghosts.gone"
    while "404" not in str((await transport.request(last, b"", timeout=5)).headers):
        await asyncio.sleep(0.05)
    nats_server.kill()
    await nats_server.start_async()
    await transport.flush()
    assert [entry.key for entry in await bucket.entries()] == ["kept"]
    assert await bucket.get("gone") is None
    revision = await bucket.put("gone", b"new", ttl=5, expected_revision=0)
    entry = await bucket.get("gone")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"new", revision)


async def test_while_disconnected_publishing_buffers_and_requests_wait(
    nats_server: NatsServer, connect: Connect
) -> None:
    transport = await connect(options_for(nats_server))
    received: list[bytes] = []
    await transport.subscribe("away", lambda delivery: received.append(delivery.data))
    nats_server.kill()
    await eventually(lambda: not transport.connected)
    await transport.publish("away", b"buffered")
    with pytest.raises(RequestTimeout, match="not sent"):
        await transport.request("away", b"too late", timeout=0.05)
    late = asyncio.create_task(transport.request("nobody", b"", timeout=30))
    subscribing = asyncio.create_task(transport.subscribe("meanwhile", lambda _: None))
    await nats_server.start_async()
    await subscribing
    with pytest.raises(NoResponders, match="nobody"):
        await late
    await eventually(lambda: received == [b"buffered"])


async def test_the_log_tells_a_loss_and_its_end_once(
    nats_server: NatsServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    transport = await connect(options_for(nats_server))
    nats_server.kill()
    await eventually(lambda: not transport.connected)
    await eventually(lambda: transport.statistics.server_errors > 2)
    await nats_server.start_async()
    await eventually(lambda: transport.connected)

    logged = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert [one for one in logged if "EOF" not in one] == [
        f"disconnected from NATS at {nats_server.url}; it is tried again",
        f"connected to NATS at {nats_server.url} again",
    ]


async def test_a_full_buffer_while_disconnected_is_an_error(
    nats_server: NatsServer, connect: Connect
) -> None:
    transport = await connect(replace(options_for(nats_server), pending_bytes=10_000))
    nats_server.kill()
    await eventually(lambda: not transport.connected)
    for _ in range(9):
        await transport.publish("full", bytes(1000))
    with pytest.raises(BusUnavailable, match="cannot publish to full"):
        await transport.publish("full", bytes(2000))
    await nats_server.start_async()


async def test_a_listener_that_raises_does_not_stop_the_others(
    nats_server: NatsServer, connect: Connect
) -> None:
    transport = await connect(options_for(nats_server))
    called: list[bool] = []

    def fail() -> None:
        raise RuntimeError("listener")

    transport.add_reconnect_listener(fail)
    transport.add_reconnect_listener(lambda: called.append(True))
    nats_server.kill()
    await nats_server.start_async()
    await eventually(lambda: called)
    assert transport.statistics.handler_errors == 1


async def test_an_interrupted_drain_leaves_no_subscription_behind(
    nats_server: NatsServer, connect: Connect
) -> None:
    transport = await connect(options_for(nats_server))
    subscription = await transport.subscribe("left", lambda _: None, queue="q")
    nats_server.kill()
    draining = asyncio.create_task(subscription.drain())
    await nats_server.start_async()
    await draining
    await transport.flush()
    with pytest.raises(NoResponders, match="nobody"):
        await transport.request("left", b"", timeout=5)


async def test_a_client_that_the_server_closes_for_good_is_built_anew(
    tmp_path: Path, connect: Connect
) -> None:
    async with NatsServer(tmp_path, extra_configuration="max_subscriptions: 4") as server:
        transport = await connect(options_for(server))
        received: list[bytes] = []
        for number in range(4):
            await transport.subscribe(f"kept.{number}", lambda d: received.append(d.data))
        with pytest.raises(BusUnavailable, match="maximum subscriptions exceeded"):
            await transport.subscribe("one.too.many", lambda _: None)
        await transport.flush()
        for number in range(4):
            await transport.publish(f"kept.{number}", str(number).encode())
        await eventually(lambda: len(received) == 4)
        assert transport.statistics.reconnects >= 1


async def test_a_process_too_slow_for_the_server_is_cut_off_and_comes_back(
    tmp_path: Path, connect: Connect
) -> None:
    limits = "max_pending: 1MB\nwrite_deadline: 100ms"
    async with NatsServer(tmp_path, extra_configuration=limits) as server:
        slow = await connect(options_for(server))
        received: list[int] = []

        def block(delivery: Delivery) -> None:
            received.append(len(delivery.data))
            if len(received) == 1:
                time.sleep(1.5)

        await slow.subscribe("flood", block)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: asyncio.run(flood(server.url)))
        await eventually(lambda: slow.statistics.reconnects >= 1)
        await slow.flush()
        await slow.publish("flood", b"x")
        await eventually(lambda: received[-1] == 1)
        assert slow.statistics.disconnects >= 1
        assert slow.statistics.dropped_deliveries == 0


async def flood(url: str) -> None:
    """Publish 64 MB; runs in another thread, while the loop of the test is blocked."""
    transport = await NatsTransport.connect(NatsOptions.from_url(url))
    for _ in range(128):
        await transport.publish("flood", bytes(500_000))
    await transport.drain()


async def test_no_server_is_an_error_that_says_what_to_do() -> None:
    options = NatsOptions(servers=("nats://me:secret@127.0.0.1:1",), connect_timeout=0.3)
    with pytest.raises(BusUnavailable, match=r"dragoman up.*NATS_URL") as caught:
        await NatsTransport.connect(options)
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


LOGIN = 'authorization { user: me, password: "s3cret" }'


async def test_wrong_credentials_are_told_at_once_and_never_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with NatsServer(tmp_path, extra_configuration=LOGIN) as server:
        address = server.url.replace("nats://", "nats://me:wr0ng@")
        with (
            caplog.at_level(logging.DEBUG, logger="dragoman"),
            pytest.raises(BusUnavailable, match=r"refused.*credentials") as caught,
        ):
            await NatsTransport.connect(NatsOptions(servers=(address,), connect_timeout=30))
        assert caught.value.code == "PERMISSION_DENIED"
        assert "wr0ng" not in str(caught.value) + caplog.text


async def test_a_login_may_stand_in_the_address_and_shows_nowhere(
    tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with NatsServer(tmp_path, extra_configuration=LOGIN) as server:
        address = server.url.replace("nats://", "nats://me:s3cret@")
        options = replace(FAST, servers=(address,))
        transport = await connect(options)
        server.kill()
        await server.start_async()
        await transport.flush()
        await transport.close()
        with pytest.raises(BusUnavailable) as caught:
            await transport.publish("x", b"")
        assert "s3cret" not in repr(options) + str(caught.value)
    assert "connected to NATS at" in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_missing_credentials_file_is_named() -> None:
    with pytest.raises(NotConfigured, match=r"absent\.creds"):
        await NatsTransport.connect(NatsOptions(credentials_file=Path("absent.creds")))


PERMISSIONS = """
authorization { users: [{
  user: limited, password: p
  permissions: { publish: ["allowed.>"], subscribe: ["allowed.>", "_INBOX.limited.>"] }
}]}
"""


async def test_refused_subjects_are_errors_at_once(tmp_path: Path, connect: Connect) -> None:
    async with NatsServer(tmp_path, extra_configuration=PERMISSIONS) as server:
        transport = await connect(
            replace(
                options_for(server), user="limited", password="p", inbox_prefix="_INBOX.limited"
            )
        )
        with pytest.raises(BusUnavailable, match=r"subscribe to Secret\.Reports") as refused:
            await transport.subscribe("Secret.Reports", lambda _: None)
        assert refused.value.code == "PERMISSION_DENIED"
        with pytest.raises(BusUnavailable, match=r"publish to Secret\.Orders") as unpublished:
            await transport.request("Secret.Orders", b"", timeout=30)
        assert unpublished.value.code == "PERMISSION_DENIED"
        received: list[Delivery] = []
        await transport.subscribe("allowed.x", received.append)
        await transport.publish("allowed.x", b"")
        await eventually(lambda: received)


async def test_a_server_without_jetstream_is_named_as_the_cause(
    tmp_path: Path, connect: Connect
) -> None:
    async with NatsServer(tmp_path, jetstream=False) as server:
        transport = await connect(options_for(server))
        with pytest.raises(BusUnavailable, match="JetStream is off"):
            await transport.key_value("any")
        bucket = await transport.key_value("any", settings=BucketSettings(create=False))
        with pytest.raises(BusUnavailable, match="JetStream is off"):
            await bucket.entries()


async def test_a_bucket_of_another_make_is_refused_with_the_reason(
    nats_server: NatsServer, connect: Connect
) -> None:
    transport = await connect(options_for(nats_server))
    stream = b'{"name":"KV_other","subjects":["$KV.other.>"],"max_msgs_per_subject":5}'
    await transport.request("$JS.API.STREAM.CREATE.KV_other", stream, timeout=5)
    with pytest.raises(BusUnavailable, match="allow_msg_ttl"):
        await transport.key_value("other")


async def test_a_server_that_takes_connections_and_does_not_greet_costs_no_open_sockets(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[DispatchingTransport] = []
    original = DispatchingTransport.connect

    async def noted(transport: DispatchingTransport, *arguments: Any) -> None:
        made.append(transport)
        await original(transport, *arguments)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    monkeypatch.setattr(DispatchingTransport, "connect", noted)
    async with NatsServer(tmp_path / "nats") as server:
        transport = await connect(options_for(server))
        port = int(server.url.rsplit(":", 1)[1])
    async with await asyncio.start_server(hang_up, "127.0.0.1", port):
        await eventually(lambda: len(opened(made)) > 3)
        await transport.close()
    assert all(writer.is_closing() for writer in opened(made))


def opened(made: list[DispatchingTransport]) -> list[asyncio.StreamWriter]:
    """The sockets of those whose server took the connection."""
    return [one._io_writer for one in made if one._io_writer is not None]
