"""The transport on NATS: the only package that knows nats-py.

What it adds to nats-py 2.16 (each point was tried against a server):

- It reconnects for ever, with full jitter, over all servers of the pool. Some errors close a
  nats-py client for good (an exceeded limit, an expired login): then a new client is built and
  every subscription is made again (``connection``).
- Deliveries are dispatched inside the read loop, with no queue and no task per subscription
  (``client``). Nothing is dropped here: a process that is too slow stops reading, and the server
  cuts it off, which is counted as a disconnect.
- ``flush`` is a real barrier, and may be cancelled (``client``).
- The payload limit counts headers, as the server does; exceeding it would close the connection.
"""

from __future__ import annotations

from dragoman_bus.transports.nats.options import (
    DEFAULT_URL,
    NatsOptions,
    redact_url,
    server_urls,
)
from dragoman_bus.transports.nats.transport import NatsTransport, connect_nats

__all__ = [
    "DEFAULT_URL",
    "NatsOptions",
    "NatsTransport",
    "connect_nats",
    "redact_url",
    "server_urls",
]
