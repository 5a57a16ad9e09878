"""How to reach and log in to NATS: options that hold secrets and never show them."""

from __future__ import annotations

import os
import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["DEFAULT_URL", "NatsOptions", "redact_url", "server_urls"]

DEFAULT_URL = "nats://127.0.0.1:4222"
SCHEMES = ("nats", "tls", "ws", "wss")


def server_urls(url: str | None = None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The servers to use: ``url``, else ``NATS_URL``, else the local default.

    Several addresses of one cluster are separated by commas.
    """
    text = url or environment.get("NATS_URL") or DEFAULT_URL
    return [part.strip() for part in text.split(",") if part.strip()]


def redact_url(url: str) -> str:
    """``url`` without user, password or token, for logs and errors."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "nats", url
    return f"{scheme}://{rest.split('/', 1)[0].rpartition('@')[2]}"


@dataclass(frozen=True, kw_only=True)
class NatsOptions:
    """Options of one connection. Give at most one way to log in.

    Attributes:
        servers: Addresses; a user and password, or a token, may stand in them.
        name: Shown by the server's monitoring.
        user: With ``password``.
        password: With ``user``.
        token: A shared token.
        nkeys_seed_file: File with an NKEY seed.
        credentials_file: ``.creds`` file with a JWT and its seed.
        tls: Encrypt, whatever the server asks for, and trust these certificates. An address with
            ``tls://`` encrypts as well; without this the system's certificates are trusted.
        tls_hostname: The name to expect in the certificate, when not that of the address.
        tls_handshake_first: Start TLS before the server speaks.
        inbox_prefix: First tokens of every inbox; servers with per-user permissions need it.
        connect_timeout: Seconds until the first connect, or one rebuild, is given up.
        reconnect_delay: Seconds: upper bound of the random wait before the second attempt to
            reconnect; it doubles with each further attempt.
        reconnect_delay_limit: Seconds: upper bound of that wait, however many attempts.
        ping_interval: Seconds between pings; two unanswered ones mean the connection is dead.
        flush_timeout: Seconds until a server that does not confirm is an error.
        drain_timeout: Seconds until a drain is cut short.
        pending_bytes: Bytes buffered for sending. When connected, publishers wait at this size;
            when disconnected, they get ``BusUnavailable``.
    """

    servers: tuple[str, ...] = (DEFAULT_URL,)
    name: str = "dragoman"
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkeys_seed_file: Path | None = None
    credentials_file: Path | None = None
    tls: ssl.SSLContext | None = None
    tls_hostname: str | None = None
    tls_handshake_first: bool = False
    inbox_prefix: str = "_INBOX"
    connect_timeout: float = 5.0
    reconnect_delay: float = 0.25
    reconnect_delay_limit: float = 5.0
    ping_interval: float = 15.0
    flush_timeout: float = 10.0
    drain_timeout: float = 30.0
    pending_bytes: int = 8 * 1024 * 1024

    @classmethod
    def from_url(cls, url: str | None = None, *, name: str = "dragoman") -> NatsOptions:
        """Options for ``url``, for ``NATS_URL``, or for a server on this machine."""
        return cls(servers=tuple(server_urls(url)), name=name)

    def __repr__(self) -> str:
        addresses = ", ".join(self.addresses)
        return f"NatsOptions(servers=[{addresses}], name={self.name!r})"

    @property
    def addresses(self) -> list[str]:
        """The servers without secrets."""
        return [redact_url(server) for server in self.servers]

    def without_secrets_in_urls(self) -> NatsOptions:
        """The same, with the login of the addresses moved into ``user`` and ``password``.

        NATS clients send what stands in an address only to that address; the other servers of
        the cluster, found after connecting, would refuse the connection.

        Raises:
            NotConfigured: The addresses have different logins.
        """
        logins = {login for server in self.servers if (login := _login(server))}
        if len(logins) > 1:
            raise NotConfigured("the NATS addresses have different logins; use one for all")
        bare = replace(self, servers=tuple(self.addresses))
        if not logins or self.user is not None or self.token is not None:
            return bare
        user, password = logins.pop()
        if password is None:
            return replace(bare, token=user)
        return replace(bare, user=user, password=password)

    def check(self) -> None:
        """Raise ``NotConfigured`` for what is no address, and for absent files."""
        if not self.servers:
            raise NotConfigured("no NATS server is named; write nats://HOST:PORT")
        for server, address in zip(self.servers, self.addresses, strict=True):
            if not _is_address(server):
                raise NotConfigured(
                    f"{address} is not the address of a NATS server; write nats://HOST:PORT "
                    "(or tls://, ws://, wss://)"
                )
        for path in (self.nkeys_seed_file, self.credentials_file):
            if path is not None and not os.access(path, os.R_OK):
                raise NotConfigured(f"the NATS credentials file {path} cannot be read")

    def delay_before(self, attempt: int) -> float:
        """Seconds to wait before reconnect attempt ``attempt`` (0, 1, …): full jitter."""
        bound = min(self.reconnect_delay_limit, self.reconnect_delay * 2 ** min(attempt, 30))
        return random.uniform(0, bound)


def _is_address(server: str) -> bool:
    parts = urlsplit(server if "://" in server else f"nats://{server}")
    try:
        return parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port
        return False


def _login(server: str) -> tuple[str, str | None] | None:
    parts = urlsplit(server if "://" in server else f"nats://{server}")
    if not parts.username:
        return None
    password = None if parts.password is None else unquote(parts.password)
    return unquote(parts.username), password
