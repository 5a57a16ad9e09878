"""What the failures of Gemini's API mean: the SDK's exceptions become ``ModelError``.

The reasons in the error's details decide, then its status, then the HTTP status and its words.
What breaks below HTTP, the SDK lets through as it is. Needs the ``google-genai`` package, so only
the adapter imports this module.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from google.auth import exceptions as auth_errors
from google.genai import errors

from dragoman_agents.models.errors import ModelError, ModelErrorKind
from dragoman_agents.models.http_failures import (
    Told,
    bounded_wait,
    connection_kind,
    explained,
    kind_of_status,
    retry_after_seconds,
)

__all__ = ["kind_of_failure", "model_error"]

KIND_BY_REASON: Mapping[str, ModelErrorKind] = {
    "API_KEY_EXPIRED": "auth",
    "API_KEY_INVALID": "auth",
    "API_KEY_SERVICE_BLOCKED": "auth",
    "BILLING_DISABLED": "quota",
    "CONSUMER_SUSPENDED": "auth",
    "SERVICE_DISABLED": "auth",
}
"""``google.rpc.ErrorInfo``: a wrong key is told as an invalid argument."""

KIND_BY_STATUS: Mapping[str, ModelErrorKind] = {
    "DEADLINE_EXCEEDED": "timeout",
    # Where the API is not offered: in this country, or not without an account that pays.
    "FAILED_PRECONDITION": "auth",
    "INTERNAL": "overloaded",
    "NOT_FOUND": "unavailable",
    "PERMISSION_DENIED": "auth",
    "UNAUTHENTICATED": "auth",
    "UNAVAILABLE": "overloaded",
}

SPENT_WORDS = re.compile(r"prepay|credits are depleted|spending cap|limit: 0\b", re.IGNORECASE)
DAILY = re.compile(r"per_?day", re.IGNORECASE)


def model_error(error: Exception, *, where: str) -> ModelError:
    """The ``ModelError`` that says what ``error`` means; see ``http_failures.explained``."""
    kind = kind_of_failure(error)
    if isinstance(error, auth_errors.GoogleAuthError):
        return ModelError(kind, f"Google's credentials give no token for {where}: {error}")
    told = Told()
    if isinstance(error, errors.APIError):
        # An error in the middle of a stream names a status too; it is the provider's own.
        status = error.code if isinstance(error.code, int) else None
        told = Told(status, _wait(error), _told(error))
    return explained(error, kind, told, where=where)


def kind_of_failure(error: Exception) -> ModelErrorKind:
    """The kind of any exception that a call through the SDK can raise."""
    if isinstance(error, auth_errors.TransportError):
        return "unreachable"
    if isinstance(error, auth_errors.GoogleAuthError):
        return "overloaded" if error.retryable else "auth"
    if not isinstance(error, errors.APIError):
        return connection_kind(error) or "internal"
    for detail in _details(error):
        kind = KIND_BY_REASON.get(str(detail.get("reason")))
        if kind is not None:
            return kind
    told = _told(error)
    if error.status == "RESOURCE_EXHAUSTED" or error.code == 429:
        return "quota" if SPENT_WORDS.search(told) or _is_daily(error) else "rate_limited"
    kind = KIND_BY_STATUS.get(str(error.status))
    if kind is not None:
        return kind
    return kind_of_status(error.code if isinstance(error.code, int) else 500, told)


def _is_daily(error: errors.APIError) -> bool:
    """Whether a day's allowance is used up, for which no wait of a task is long enough."""
    violations = [
        violation
        for detail in _details(error)
        for violation in detail.get("violations") or ()
        if isinstance(violation, Mapping)
    ]
    return any(DAILY.search(str(violation.get("quotaId"))) for violation in violations)


def _wait(error: errors.APIError) -> float | None:
    """Seconds to wait, as ``google.rpc.RetryInfo`` or a header says."""
    for detail in _details(error):
        delay = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)s", str(detail.get("retryDelay")))
        if delay is not None:
            return bounded_wait(float(delay.group(1)))
    headers = getattr(error.response, "headers", None)
    return None if headers is None else retry_after_seconds(headers, time.time())


def _details(error: errors.APIError) -> Iterator[Mapping[str, Any]]:
    body = error.details.get("error", error.details) if isinstance(error.details, dict) else {}
    details = body.get("details") if isinstance(body, dict) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield detail


def _told(error: errors.APIError) -> str:
    return error.message if isinstance(error.message, str) else str(error.details)
