"""Options of a NATS connection: where the address comes from, and that secrets stay inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.transports.nats import DEFAULT_URL, NatsOptions, redact_url, server_urls


def test_the_address_is_the_one_given_else_that_of_the_environment_else_local() -> None:
    environment = {"NATS_URL": "nats://a:1, nats://b:2"}
    assert server_urls("nats://c:3", environment) == ["nats://c:3"]
    assert server_urls(None, environment) == ["nats://a:1", "nats://b:2"]
    assert server_urls(None, {}) == [DEFAULT_URL]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://host:4222", "nats://host:4222"),
        ("nats://me:p@ss@host:4222", "nats://host:4222"),
        ("token@host", "nats://host"),
        ("tls://me:secret@[::1]:4222/path", "tls://[::1]:4222"),
        ("wss://secret@host", "wss://host"),
    ],
)
def test_a_login_is_cut_out_of_an_address(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_a_login_of_an_address_holds_for_every_server_of_the_cluster() -> None:
    options = NatsOptions(servers=("nats://me:p%40ss@a:1", "nats://b:2"))
    bare = options.without_secrets_in_urls()
    assert (bare.user, bare.password) == ("me", "p@ss")
    assert bare.servers == ("nats://a:1", "nats://b:2")
    assert NatsOptions(servers=("nats://t0ken@a:1",)).without_secrets_in_urls().token == "t0ken"


def test_an_explicit_login_wins_over_that_of_an_address() -> None:
    options = NatsOptions(servers=("nats://me:old@a:1",), user="me", password="new")
    assert options.without_secrets_in_urls().password == "new"


def test_different_logins_in_the_addresses_are_refused() -> None:
    options = NatsOptions(servers=("nats://a:secret@a:1", "nats://b:secret@b:2"))
    with pytest.raises(NotConfigured) as caught:
        options.without_secrets_in_urls()
    assert "secret" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    options = NatsOptions(
        servers=("nats://me:hidden@a:1",), password="hidden", token="hidden", user="hidden"
    )
    assert "hidden" not in repr(options)
    assert "hidden" not in repr(options.without_secrets_in_urls())
    assert "hidden" not in f"{options}"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match="absent"):
        NatsOptions(nkeys_seed_file=tmp_path / "absent").check()


@pytest.mark.parametrize(
    "server",
    ["http://host:4222", "nats://host:99999", "nats://host:x", "nats://", "nats://host:0", "://h"],
)
def test_what_is_no_address_of_a_nats_server_is_said_at_once(server: str) -> None:
    with pytest.raises(NotConfigured, match="nats://HOST:PORT"):
        NatsOptions(servers=(server,)).check()


@pytest.mark.parametrize(
    "server", ["host", "host:4222", "nats://host", "tls://[::1]:1", "ws://h:80", "wss://me:p@h"]
)
def test_addresses_may_be_short(server: str) -> None:
    NatsOptions(servers=(server,)).check()


def test_no_address_at_all_is_said() -> None:
    with pytest.raises(NotConfigured, match="no NATS server"):
        NatsOptions.from_url(" , ").check()


def test_the_wait_before_a_reconnect_is_random_and_bounded() -> None:
    options = NatsOptions(reconnect_delay=0.5, reconnect_delay_limit=4.0)
    first = {options.delay_before(0) for _ in range(50)}
    late = {options.delay_before(10_000) for _ in range(50)}
    assert len(first) > 1
    assert max(first) <= 0.5
    assert 0.5 < max(late) <= 4.0
