"""nats-py's client, made to dispatch where bytes arrive, write in batches, flush without harm.

Names that nats-py does not call public are used, so its version has an upper bound and the
contract tests of the transports would show a change.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import nats.errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg

from dragoman_bus.transports.dispatch import HandlerErrors
from dragoman_bus.transports.nats.sockets import DispatchingTransport
from dragoman_bus.transports.nats.wire import header_block
from dragoman_bus.transports.port import Delivery, Handler, Headers

__all__ = ["BusClient", "Dispatch"]

_DAY = 86_400
_READ_LIMIT = 32 * 1024
"""Bytes that wait for nats-py before the socket is not read any more: nats-py's own bound."""


class _Delivery(Delivery):
    """A delivery that nats-py builds in place of its own message: one object instead of two."""

    __slots__ = ()

    def __init__(
        self,
        *,
        subject: str,
        reply: str,
        data: bytes,
        headers: Headers | None,
        _client: Client,
        _sid: int,
    ) -> None:
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers


class Dispatch(asyncio.Future[Any]):
    """Handed to nats-py as the future of a subscription; each "result" is one message.

    Over TCP the messages do not come to nats-py at all (``sockets``). Over WebSocket nats-py
    resolves the future where it reads the message, so the handler is called there too.
    """

    def __init__(self, subject: str, handler: Handler, errors: HandlerErrors) -> None:
        super().__init__()
        self._subject = subject
        self._handler = handler
        self._errors = errors

    def set_result(self, result: Any) -> None:
        """Call the handler; an exception must not reach whoever reads, which it would end."""
        try:
            self._handler(result)
        except Exception as error:  # noqa: BLE001 - whatever it raises
            self._errors.report(self._subject, error)


class BusClient(Client):
    """A client whose ``flush`` is a barrier and survives cancellation.

    nats-py calls ``flush`` too, when it drains and when it reconnects, so they gain the same.
    """

    msg_class = cast("type[Msg]", _Delivery)

    def __init__(self) -> None:
        super().__init__()
        self._pings: set[asyncio.Task[None]] = set()
        self._write_is_due = False

    async def _connect_to_server(self, s: Srv) -> None:
        if s.uri.scheme in ("ws", "wss"):
            await super()._connect_to_server(s)
            return
        s.last_attempt = time.monotonic()
        if self._transport is not None:
            # Of a server that took the connection and did not greet; nats-py just drops it.
            self._transport.close()  # type: ignore[no-untyped-call]
        self._transport = DispatchingTransport(self._handler_of)
        await self._transport.connect(s.uri, _READ_LIMIT, self.options["connect_timeout"])

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        await super()._process_info(info, initial_connection)
        if initial_connection and self._wants_tls and info.get("tls_available"):
            # nats-py encrypts only where the server insists.
            self._server_info["tls_required"] = True

    def _connect_command(self) -> bytes:
        """What logs in; nats-py would send it in the clear to a server that asks for no TLS."""
        transport = self._transport
        in_the_clear = isinstance(transport, DispatchingTransport) and not transport.encrypted
        if in_the_clear and self._wants_tls:
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()

    @property
    def _wants_tls(self) -> bool:
        server = self._current_server
        return "tls" in self.options or (server is not None and server.uri.scheme == "tls")

    def _handler_of(self, sid: int) -> Handler | None:
        subscription = self._subs.get(sid)
        future = None if subscription is None else subscription._future
        return future.set_result if isinstance(future, Dispatch) else None

    def send(self, subject: str, data: bytes, reply: str, headers: Headers | None) -> bool:
        """Publish, together with all that this turn of the event loop publishes.

        nats-py makes a future and wakes a task for each publish: 15 us when one is sent alone.

        Returns:
            Whether it was taken; ``False`` means that nats-py's ``publish`` has to judge it.
        """
        head = b"" if headers is None else header_block(headers)
        if (
            self._status != Client.CONNECTED
            or head is None
            or len(head) + len(data) > self._max_payload
            or self._pending_data_size > self._max_pending_size
            or not isinstance(self._transport, DispatchingTransport)
            or subject.split() != [subject]
            or (reply and reply.split() != [reply])
        ):
            return False
        sizes = f"{len(head)} {len(head) + len(data)}" if head else f"{len(data)}"
        line = f"{'HPUB' if head else 'PUB'} {subject} {reply} {sizes}\r\n"
        command = b"".join((line.encode(), head, data, b"\r\n"))
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self._write_is_due:
            self._write_is_due = True
            asyncio.get_running_loop().call_soon(self._write)
        return True

    def _write(self) -> None:
        """Write what is pending, unless the server is slow: then nats-py's flusher waits for it."""
        self._write_is_due = False
        transport, flushes = self._transport, self._flush_queue
        if self._status != Client.CONNECTED or not isinstance(transport, DispatchingTransport):
            return  # nats-py writes what is pending once it is connected again
        if not transport.congested:
            pending, self._pending = self._pending, []
            self._pending_data_size = 0
            transport.writelines(pending)  # type: ignore[no-untyped-call]
        elif flushes is not None and not flushes.full():
            flushes.put_nowait(asyncio.get_running_loop().create_future())

    async def flush(self, timeout: float = 10) -> None:
        """Return when the server has processed all that was sent before.

        Raises:
            nats.errors.FlushTimeoutError: It did not confirm in time, or the connection broke.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self._until_written(deadline)
        # Never cancelled on a live connection: the PONG would resolve a canceled future, and
        # that error ends nats-py's read loop, leaving it deaf on a healthy connection.
        ping = asyncio.create_task(super().flush(timeout=_DAY))
        self._pings.add(ping)
        ping.add_done_callback(self._pings.discard)
        await asyncio.wait({ping}, timeout=max(0.0, deadline - loop.time()))
        if not ping.done() or ping.cancelled():
            raise nats.errors.FlushTimeoutError
        ping.result()

    async def _until_written(self, deadline: float) -> None:
        """Let the flusher empty its buffer: nats-py writes a PING at once, ahead of it."""
        loop = asyncio.get_running_loop()
        rounds = 0
        while self.pending_data_size and self.is_connected and loop.time() < deadline:
            await asyncio.sleep(0 if rounds < 8 else 0.001)
            rounds += 1

    def forget_pings(self) -> None:
        """Cancel the pings of a connection that is gone; their PONGs cannot come any more."""
        for ping in list(self._pings):
            ping.cancel()
