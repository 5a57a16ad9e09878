"""What an instance checks before it accepts a task.

Spec: spec/operations.md, submit. A refusal here means that the task never existed.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.codec import outline
from dragoman_bus.protocol.error_objects import error_of
from dragoman_bus.protocol.errors import DragomanError, RemoteError
from dragoman_bus.protocol.messages import Envelope, TaskSubmit
from dragoman_bus.protocol.payloads import AnnounceData, ErrorData, Limits, SubmitData
from dragoman_bus.protocol.subjects import ask_subject, is_token
from dragoman_bus.protocol.timestamps import parse_timestamp
from dragoman_bus.validation import validate_document, violations_as_details

__all__ = ["check_submission", "is_meant_for", "refusal"]

ERROR_TYPE = "dev.dragoman.error"
MAXIMUM_EXPLAINED_BYTES = 64 * 1024
"""Larger documents are refused without a list of what is wrong: to find it all takes time."""


def is_meant_for(message: Envelope, agent: str, subject: str) -> bool:
    """Whether this agent is to take note of a message: a scattered task may name its audience."""
    if not isinstance(message, TaskSubmit) or isinstance(message.data.audience, UnsetType):
        return True
    scattered = subject == ask_subject(message.data.skill)
    return not scattered or agent in message.data.audience


def check_submission(data: SubmitData, announce: AnnounceData, *, now: float) -> None:
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
    _check_extensions(data, announce)
    if not isinstance(data.lineage, UnsetType) and announce.agent in data.lineage.path:
        path = " > ".join([*data.lineage.path, announce.agent])
        raise RemoteError(
            f"the task came back to an agent above it: {path}",
            code="DELEGATION_LOOP",
            details={"path": [*data.lineage.path, announce.agent]},
        )


def refusal(document: bytes, error: DragomanError) -> ErrorData | None:
    """What answers a request that was not accepted; ``None`` when that was an error itself.

    Two who answer errors by errors would never stop (spec/errors.md).
    """
    seen = outline(document)
    if seen.type == ERROR_TYPE:
        return None
    task_id = error.task_id or seen.task_id or ""
    if error.code == "INVALID_MESSAGE" and not error.details:
        error.details = _explained(document)
    return ErrorData(error=error_of(error), task_id=task_id if is_token(task_id) else UNSET)


def _explained(document: bytes) -> dict[str, Any]:
    """What the reference judge finds wrong (ERR-12), where that does not take long."""
    if len(document) > MAXIMUM_EXPLAINED_BYTES:
        return {}
    return violations_as_details(validate_document(document))


def _check_extensions(data: SubmitData, announce: AnnounceData) -> None:
    """What the caller requires is understood here, and what is required here the caller knows."""
    if not data.required_extensions and not announce.extensions:
        return
    wanted, known = set(data.required_extensions or ()), announce.extensions or ()
    unknown = wanted - {extension.uri for extension in known}
    missing = {extension.uri for extension in known if extension.required is True} - wanted
    for uris, words in ((unknown, "not understood here"), (missing, "required here")):
        if uris:
            raise RemoteError(
                f"extensions {words}: {', '.join(sorted(uris))[:1024]}", code="EXTENSION_REQUIRED"
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
