"""What an instance checks before it accepts a task.

Spec: spec/operations.md, submit. A refusal here means that the task never existed.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import UnsetType

from dragoman_bus.protocol.errors import RemoteError
from dragoman_bus.protocol.payloads import AnnounceData, Limits, SubmitData
from dragoman_bus.protocol.timestamps import parse_timestamp

__all__ = ["check_submission"]


def check_submission(
    data: SubmitData, announce: AnnounceData, *, now: float, extensions: Collection[str] = ()
) -> None:
    """Refuse what this agent cannot do.

    Raises:
        RemoteError: ``UNKNOWN_SKILL``, ``CONTRACT_MISMATCH``, ``EXTENSION_REQUIRED``,
            ``DELEGATION_LOOP`` or ``DEADLINE_EXCEEDED``.
    """
    _check_deadline(data.limits, now)
    for contract in announce.contracts:
        if contract.skill == data.skill:
            break
    else:
        offered = ", ".join(sorted(c.skill for c in announce.contracts)) or "none"
        raise RemoteError(
            f"agent {announce.agent} has no skill {data.skill!r}; it has: {offered}",
            code="UNKNOWN_SKILL",
        )
    if not isinstance(data.contract, UnsetType) and data.contract != contract.digest:
        raise RemoteError(
            f"the contract of {data.skill!r} is {contract.digest}",
            code="CONTRACT_MISMATCH",
            details={"contract": contract.digest},
        )
    wanted = () if isinstance(data.required_extensions, UnsetType) else data.required_extensions
    unknown = [uri for uri in wanted if uri not in extensions]
    if unknown:
        raise RemoteError(
            f"extensions not understood here: {', '.join(unknown)[:1024]}",
            code="EXTENSION_REQUIRED",
        )
    if not isinstance(data.lineage, UnsetType) and announce.agent in data.lineage.path:
        path = " > ".join([*data.lineage.path, announce.agent])
        raise RemoteError(
            f"the task came back to an agent above it: {path}",
            code="DELEGATION_LOOP",
            details={"path": [*data.lineage.path, announce.agent]},
        )


def _check_deadline(limits: Limits | UnsetType, now: float) -> None:
    if isinstance(limits, UnsetType) or isinstance(limits.deadline, UnsetType):
        return
    # A request may have waited in a buffer while the connection was down.
    late = now - parse_timestamp(limits.deadline)
    if late > 0:
        raise RemoteError(
            f"the deadline passed {late:.1f} s before the task arrived", code="DEADLINE_EXCEEDED"
        )
