"""One lasting connection: connects or says why not, then comes back from every loss.

nats-py reconnects by itself after a network error. After an error that the server reports (a
limit exceeded, a login expired) it closes for good; then a new client takes its place.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Callable
from typing import Any, Protocol

import nats.errors
from nats.aio.client import Client, Server

from dragoman_bus.protocol.errors import BusUnavailable, DragomanError, NotConfigured
from dragoman_bus.transports.dispatch import HandlerErrors
from dragoman_bus.transports.nats.client import BusClient
from dragoman_bus.transports.nats.options import NatsOptions
from dragoman_bus.transports.port import Statistics

__all__ = ["Attached", "Connection", "logger"]

logger = logging.getLogger("dragoman.transports.nats")

_CLOSE_TIMEOUT = 5.0
_REFUSED = re.compile(
    r'permissions violation for (publish|subscription) to "([^"]*)"', re.IGNORECASE
)
_LOGIN = re.compile(r"authorization|authentication|credentials|certificate", re.IGNORECASE)


class Attached(Protocol):
    """What is made again on a new client: a subscription."""

    async def attach(self, client: Client) -> None:
        """Make it on ``client``, without waiting for the server."""


class Connection:
    """The current client, and its life.

    Args:
        options: Where and how to connect.
        on_publish_refused: Called with the subject (in lower case) when the server reports that
            this user may not publish there; says whether somebody waited for it, and is told.
    """

    def __init__(self, options: NatsOptions, on_publish_refused: Callable[[str], bool]) -> None:
        options.check()
        self.options = options.without_secrets_in_urls()
        self.addresses = ", ".join(self.options.servers)
        self.statistics = Statistics()
        self.errors = HandlerErrors(logger, self.statistics)
        self.listeners: list[Callable[[], None]] = []
        self.attached: set[Attached] = set()
        self.refused_subscriptions: set[str] = set()
        self.client = BusClient()
        self.closing = False
        self._on_publish_refused = on_publish_refused
        self._up = asyncio.Event()
        self._rebuilding: asyncio.Task[None] | None = None
        self._attempt = 0
        self._outage_logged = False

    @property
    def connected(self) -> bool:
        """Whether messages reach the server now."""
        return self._up.is_set() and self.client.is_connected and not self.closing

    def check_open(self) -> None:
        """Raise ``BusUnavailable`` after ``close``."""
        if self.closing:
            raise BusUnavailable("this connection to NATS is closed", retryable=False)

    async def until_connected(self, timeout: float) -> bool:
        """Wait for the connection; ``False`` when ``timeout`` seconds pass first."""
        self.check_open()
        if not self.client.is_connected:
            # nats-py knows of the loss before it tells.
            self._up.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._up.wait()
        except TimeoutError:
            return False
        self.check_open()
        return True

    async def open(self) -> None:
        """Connect for the first time; errors as in ``NatsTransport.connect``."""
        self._install(await self._new_client())

    async def flush(self) -> None:
        """Return when the server has processed all that was sent, across a reconnect."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.options.flush_timeout
        while (remaining := deadline - loop.time()) > 0 and await self.until_connected(remaining):
            client = self.client
            try:
                await client.flush(timeout=max(0.001, deadline - loop.time()))
            except nats.errors.Error as error:
                logger.debug("a flush was interrupted: %s", error)
            else:
                if self.connected and client is self.client:
                    return
            self._check_kept(client)
            await asyncio.sleep(0)
        raise BusUnavailable(
            f"NATS at {self.addresses} did not confirm within {self.options.flush_timeout:g} s"
        )

    def _check_kept(self, client: BusClient) -> None:
        """Raise when the server ended the connection for good: what was sent on it is lost."""
        if client.is_closed and not self.closing:
            raise BusUnavailable(
                f"NATS at {self.addresses} ended the connection ({client.last_error}); a new one "
                "is being made"
            )

    async def drain(self) -> None:
        """Let nats-py drain subscriptions and buffers, within bounds, then close."""
        if self.connected:
            self.closing = True
            draining = asyncio.create_task(self.client.drain())
            draining.add_done_callback(functools.partial(_log_failure, "draining"))
            limit = self.options.drain_timeout + self.options.flush_timeout
            await asyncio.wait({draining}, timeout=limit)
        await self.close()

    async def close(self) -> None:
        """Close for good; may be called again."""
        self.closing = True
        if self._rebuilding is not None:
            self._rebuilding.cancel()
        # Whoever waits for the connection wakes up, and finds it closed.
        self._up.set()
        await _close_client(self.client)

    # -- making a client ----------------------------------------------------------------------

    async def _new_client(self) -> BusClient:
        """A connected client. nats-py alone would try for ever, and say nothing."""
        client = BusClient()
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connecting = asyncio.create_task(client.connect(**self._arguments(client, refused)))
        try:
            await asyncio.wait(
                (connecting, refused),
                timeout=self.options.connect_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if connecting.done():
                connecting.result()
                return client
        except (nats.errors.Error, OSError, ValueError, ImportError) as error:
            raise NotConfigured(f"cannot connect to NATS at {self.addresses}: {error}") from error
        finally:
            if not client.is_connected:
                connecting.cancel()
                await asyncio.wait({connecting}, timeout=_CLOSE_TIMEOUT)
                await _close_client(client)
        raise self._no_connection(client, refused=refused.done())

    def _no_connection(self, client: Client, *, refused: bool) -> BusUnavailable:
        reason = str(client.last_error or "no answer").removeprefix("nats: ")
        if refused:
            return BusUnavailable(
                f"NATS at {self.addresses} refused the connection ({reason}); check user, "
                "password, token, credentials file and TLS settings",
                code="PERMISSION_DENIED",
            )
        return BusUnavailable(
            f"no NATS server answers at {self.addresses} within "
            f"{self.options.connect_timeout:g} s ({reason}); start one with `dragoman up`, or "
            "set NATS_URL to the address of yours"
        )

    def _arguments(self, client: BusClient, refused: asyncio.Future[None]) -> dict[str, Any]:
        options = self.options

        async def on_error(error: Exception) -> None:
            if client is self.client:
                self._on_error(error)
            elif _LOGIN.search(str(error)) and not refused.done():
                refused.set_result(None)

        async def on_disconnect() -> None:
            self._on_disconnect(client)

        async def on_reconnect() -> None:
            self._on_reconnect(client)

        async def on_closed() -> None:
            self._on_closed(client)

        return {
            "servers": list(options.servers),
            "name": options.name,
            "user": options.user,
            "password": options.password,
            "token": options.token,
            "nkeys_seed": options.nkeys_seed_file and str(options.nkeys_seed_file),
            "user_credentials": options.credentials_file and str(options.credentials_file),
            "tls": options.tls,
            "tls_hostname": options.tls_hostname,
            "tls_handshake_first": options.tls_handshake_first,
            "inbox_prefix": options.inbox_prefix,
            "connect_timeout": options.connect_timeout,
            "reconnect_time_wait": options.reconnect_delay,
            "max_reconnect_attempts": -1,
            "reconnect_to_server_handler": self._next_server,
            "ping_interval": options.ping_interval,
            "max_outstanding_pings": 2,
            "pending_size": options.pending_bytes,
            "drain_timeout": options.drain_timeout,
            "error_cb": on_error,
            "disconnected_cb": on_disconnect,
            "reconnected_cb": on_reconnect,
            "closed_cb": on_closed,
        }

    def _next_server(
        self, servers: list[Server], _information: dict[str, Any]
    ) -> tuple[Server | None, float]:
        """Take the servers in turn; without a choice nats-py retries the first for ever."""
        attempt = self._attempt
        self._attempt += 1
        server = servers[attempt % len(servers)] if servers else None
        return server, self.options.delay_before(attempt)

    def _install(self, client: BusClient) -> None:
        self.client = client
        self._attempt = 0
        self._outage_logged = False
        self._up.set()

    # -- callbacks of nats-py -----------------------------------------------------------------

    def _on_error(self, error: Exception) -> None:
        self.statistics.server_errors += 1
        refused = _REFUSED.search(str(error))
        if refused:
            self._on_refused(*refused.groups())
        elif self._outage_logged:
            logger.debug("NATS at %s still fails: %s", self.addresses, error)
        else:
            self._outage_logged = not self.connected
            logger.warning("NATS at %s: %s", self.addresses, error or type(error).__name__)

    def _on_refused(self, action: str, subject: str) -> None:
        if action == "publish" and self._on_publish_refused(subject):
            return  # whoever sent the request is told
        logger.error("NATS refuses the %s to %s to this user", action, subject)
        if action != "publish":
            self.refused_subscriptions.add(subject)

    def _on_disconnect(self, client: BusClient) -> None:
        if client is self.client and not self.closing:
            self._up.clear()
            self.statistics.disconnects += 1
            # That it cannot be reached meanwhile is no news.
            self._outage_logged = True
            logger.warning("disconnected from NATS at %s; it is tried again", self.addresses)

    def _on_reconnect(self, client: BusClient) -> None:
        client.forget_pings()
        if client is self.client and not self.closing:
            self._install(client)
            self._announce_reconnect()

    def _announce_reconnect(self) -> None:
        self.statistics.reconnects += 1
        # As loud as the loss, or whoever reads the log believes that it lasts.
        logger.warning("connected to NATS at %s again", self.addresses)
        self.errors.call_all(self.listeners)

    def _on_closed(self, client: BusClient) -> None:
        """A client that closed by itself is dead; nats-py never revives it."""
        client.forget_pings()
        if client is not self.client or self.closing:
            return
        self._up.clear()
        self.statistics.server_errors += 1
        reason = client.last_error or "no reason given"
        logger.error("NATS at %s ended the connection: %s", self.addresses, reason)
        if self._rebuilding is None or self._rebuilding.done():
            self._rebuilding = asyncio.create_task(self._rebuild())

    async def _rebuild(self) -> None:
        while not self.closing:
            await asyncio.sleep(self.options.delay_before(self._attempt))
            self._attempt += 1
            try:
                client = await self._new_client()
                for subscription in list(self.attached):
                    await subscription.attach(client)
                await client.flush(timeout=self.options.flush_timeout)
            except (DragomanError, nats.errors.Error, OSError) as error:
                logger.warning("cannot come back to NATS at %s: %s", self.addresses, error)
                continue
            if client.is_connected:
                self._install(client)
                self._announce_reconnect()
                return


async def _close_client(client: BusClient) -> None:
    """Close within a bound: a peer that stalls would keep nats-py waiting for ever."""
    closing = asyncio.create_task(client.close())
    closing.add_done_callback(functools.partial(_log_failure, "closing"))
    await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT)
    closing.cancel()
    client.forget_pings()


def _log_failure(what: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("%s the connection failed: %s", what, error)
