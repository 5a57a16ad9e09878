"""What stands under a key of the registry: a lease or a card that belongs there, or neither.

Spec: spec/nats-binding.md, registry.
"""

from __future__ import annotations

import contextlib

import msgspec

from dragoman_bus.protocol.canonical import digest_of_document
from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.errors import ProtocolError, RevisionConflict
from dragoman_bus.protocol.messages import AgentAnnounce, AgentLease
from dragoman_bus.protocol.payloads import AnnounceData, LeaseData
from dragoman_bus.protocol.subjects import parse_registry_key
from dragoman_bus.transports.port import KeyValue

__all__ = ["is_junk", "prune", "read_entry"]


class _Covered(msgspec.Struct):
    """What the digest of a card covers, as it was written."""

    data: msgspec.Raw


def read_entry(key: str, value: bytes) -> AnnounceData | LeaseData | None:
    """What an entry says; ``None`` when the key is not one of the protocol.

    Raises:
        ProtocolError: readers ignore the value (REG-4, REG-17).
    """
    place = parse_registry_key(key)
    if place is None:
        return None
    kind, agent, rest = place
    message = decode(value)
    if kind == "card" and isinstance(message, AgentAnnounce) and message.data.agent == agent:
        if _digest_of(value) != f"sha256:{rest}":
            raise ProtocolError("the card has another digest than its key")
        return message.data
    if kind == "inst" and isinstance(message, AgentLease):
        lease = message.data
        if (lease.agent, lease.instance) == (agent, rest):
            return lease
    raise ProtocolError("the value does not belong under this key")


def _digest_of(card: bytes) -> str:
    """The digest over what was sent, since members that are unknown here count as well (REG-4)."""
    try:
        return digest_of_document(msgspec.json.decode(card, type=_Covered).data)
    except ValueError as error:
        # Such members were passed over when the message was read.
        raise ProtocolError(f"the card has no digest: {error}") from None


def is_junk(error: ProtocolError) -> bool:
    """Whether what ``read_entry`` refused is of no use to anybody, later versions included."""
    return error.code not in ("UNSUPPORTED_VERSION", "UNKNOWN_TYPE")


async def prune(bucket: KeyValue) -> dict[str, str]:
    """Delete the junk of the registry; what was wrong with it, by key.

    An agent whose entry was overwritten by junk announces itself again (REG-8).

    Raises:
        BusUnavailable: the server has no registry, or does not allow it.
    """
    deleted: dict[str, str] = {}
    for entry in [*await bucket.entries("card.>"), *await bucket.entries("inst.>")]:
        try:
            read_entry(entry.key, entry.value)
        except ProtocolError as error:
            # What was written since then is another value, to be judged anew (REG-21).
            with contextlib.suppress(RevisionConflict):
                if is_junk(error):
                    await bucket.delete(entry.key, expected_revision=entry.revision)
                    deleted[entry.key] = error.message
    return deleted
