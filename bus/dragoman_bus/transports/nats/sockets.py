"""nats-py's TCP transport, with messages taken out where the bytes arrive.

nats-py reads in a task of its own, which costs a turn of the event loop for each read. Here the
reader splits messages off as the socket delivers them; nats-py's task gets the rest.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport

from dragoman_bus.transports.nats.wire import MessageSplitter
from dragoman_bus.transports.port import Handler

__all__ = ["DispatchingTransport"]

_CONGESTED_BYTES = 64 * 1024


class _Reader(asyncio.StreamReader):
    """A reader that hands messages to their handlers, once it was told to."""

    splitter: MessageSplitter | None = None

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        if self.splitter is not None:
            data = self.splitter.feed(data)
        if data:
            super().feed_data(data)


class DispatchingTransport(TcpTransport):
    """Calls the handlers of messages inside the socket's callback.

    Args:
        handler_of: The handler of a subscription id, or ``None`` when nats-py serves it.
    """

    def __init__(self, handler_of: Callable[[int], Handler | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._handler_of = handler_of

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """As nats-py does, with our reader."""
        assert uri.hostname is not None
        assert uri.port is not None
        loop = asyncio.get_running_loop()
        reader = _Reader(limit=buffer_size, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await asyncio.wait_for(
            loop.create_connection(lambda: protocol, uri.hostname, uri.port), connect_timeout
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = writer

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """As nats-py does, with our reader."""
        assert self._io_writer is not None
        loop = asyncio.get_running_loop()
        reader = _Reader(limit=buffer_size, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        name = uri if isinstance(uri, str) else uri.hostname
        transport = await asyncio.wait_for(
            loop.start_tls(self._io_writer.transport, protocol, ssl_context, server_hostname=name),
            connect_timeout,
        )
        assert transport is not None
        self._io_reader = reader
        self._io_writer = asyncio.StreamWriter(transport, protocol, reader, loop)

    async def read(self, buffer_size: int) -> bytes:
        """What nats-py has to process; its first call ends the handshake, and messages begin."""
        reader = self._io_reader
        assert isinstance(reader, _Reader)
        if reader.splitter is not None:
            return await reader.read(buffer_size)
        early = b"" if not reader._buffer else await reader.read(buffer_size)  # type: ignore[attr-defined]
        reader.splitter = MessageSplitter(self._handler_of)
        return reader.splitter.feed(early) or await reader.read(buffer_size)

    @property
    def encrypted(self) -> bool:
        """Whether TLS has begun."""
        writer = self._io_writer
        return writer is not None and writer.get_extra_info("sslcontext") is not None

    @property
    def congested(self) -> bool:
        """Whether the server does not read as quickly as this side writes."""
        writer = self._io_writer
        return writer is None or writer.transport.get_write_buffer_size() > _CONGESTED_BYTES
