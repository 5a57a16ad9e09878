"""Keys of a bucket: how they are spelled, and which messages say that one is gone."""

from __future__ import annotations

import re

from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.transports.port import Delivery

__all__ = ["check_key", "is_marker"]

_KEY = re.compile(r"[-/_=A-Za-z0-9]+(\.[-/_=A-Za-z0-9]+)*")


def check_key(key: str) -> None:
    """Raise ``ProtocolError`` unless ``key`` can be a key of a bucket."""
    if not _KEY.fullmatch(key):
        raise ProtocolError(f"{key!r} is not a key: use letters, digits, - _ = / and inner dots")


def is_marker(delivery: Delivery) -> bool:
    """Whether a message of a bucket says that its key is gone: deleted, purged, or expired."""
    if delivery.headers is None:
        return False
    return bool(
        delivery.headers.get("Nats-Marker-Reason")
        or delivery.headers.get("KV-Operation") in ("DEL", "PURGE")
    )
