"""Error objects and error messages, made from exceptions without telling secrets.

Spec: spec/errors.md.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from dragoman_bus.protocol.error_registry import defaults_of
from dragoman_bus.protocol.errors import DragomanError
from dragoman_bus.protocol.payloads import CancelData, ErrorObject
from dragoman_bus.protocol.soundness import legible

__all__ = ["cancellation", "error_object", "error_of"]

LONGEST_WAIT_SECONDS = 86400.0


def error_object(code: str, message: str, **members: Any) -> ErrorObject:
    """An error object with the defaults of its code."""
    return ErrorObject(
        **{
            "code": code,
            "message": legible(message[:4096]),
            "retryable": defaults_of(code).retryable,
            "side_effects": "none",
            **members,
        }
    )


def cancellation(wish: CancelData, words: str, **members: Any) -> ErrorObject:
    """The error object of a task that was canceled: ``words``, and the reason that was given."""
    reason = "" if isinstance(wish.reason, UnsetType) else f": {wish.reason}"
    return error_object("CANCELED", f"{words}{reason}", **members)


def error_of(error: DragomanError, *, side_effects: str | None = None) -> ErrorObject:
    """The error object that tells a Dragoman error to the other side."""
    details = dict(error.details)
    supported = details.pop("supportedVersions", None)
    return error_object(
        error.code,
        error.message,
        retryable=error.retryable,
        side_effects=side_effects or error.side_effects,
        retry_after_seconds=UNSET if error.retry_after is None else _bounded(error.retry_after),
        supported_versions=supported or UNSET,
        details=details or UNSET,
    )


def _bounded(seconds: float) -> float:
    """A wait as the protocol can tell it: a day at most."""
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
