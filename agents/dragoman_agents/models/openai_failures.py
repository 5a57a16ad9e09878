"""What an OpenAI-compatible server's failures mean: SDK exceptions become ``ModelError``.

The HTTP status decides, unless the body's ``code``, ``type`` or words say more. Needs the
``openai`` package, so only the adapter imports this module.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping

import openai

from dragoman_agents.models.errors import ModelError, ModelErrorKind

__all__ = ["kind_of_failure", "model_error", "retry_after_seconds"]

LONGEST_WAIT = 86_400.0
SHOWN = 300

KIND_BY_STATUS: Mapping[int, ModelErrorKind] = {
    401: "auth",
    402: "quota",
    403: "auth",
    404: "unavailable",
    408: "timeout",
    410: "unavailable",
    429: "rate_limited",
    504: "timeout",
}

KIND_BY_CODE: Mapping[str, ModelErrorKind] = {
    "access_terminated": "auth",
    "authentication_error": "auth",
    "billing_hard_limit_reached": "quota",
    "billing_not_active": "quota",
    "content_filter": "refused",
    "content_policy_violation": "refused",
    "context_length_exceeded": "context_length",
    "exceed_context_size_error": "context_length",
    "insufficient_quota": "quota",
    "invalid_api_key": "auth",
    "model_not_found": "unavailable",
    "overloaded_error": "overloaded",
    "permission_error": "auth",
    "rate_limit_exceeded": "rate_limited",
    "server_error": "overloaded",
    "string_above_max_length": "context_length",
}

CONTEXT_WORDS = re.compile(
    r"context (length|size|window)|maximum context|too many (input )?tokens|prompt is too long",
    re.IGNORECASE,
)


def model_error(error: Exception, *, where: str) -> ModelError:
    """The ``ModelError`` that says what ``error`` means. Its message is not yet redacted.

    Args:
        error: Whatever a call through the SDK raised.
        where: The server's address, without secrets.
    """
    if isinstance(error, ModelError):
        return error
    kind = kind_of_failure(error)
    status = error.status_code if isinstance(error, openai.APIStatusError) else None
    return ModelError(
        kind,
        _sentence(error, kind, status, where),
        status=status,
        retry_after=_wait(error),
    )


def kind_of_failure(error: Exception) -> ModelErrorKind:
    """The kind of any exception that a call through the SDK can raise."""
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return "timeout"
    if isinstance(error, openai.APIConnectionError | OSError):
        return "unreachable"
    if not isinstance(error, openai.APIError):
        return "internal"
    told = KIND_BY_CODE.get(error.code or "") or KIND_BY_CODE.get(error.type or "")
    if told is not None:
        return told
    if not isinstance(error, openai.APIStatusError):
        # An error event in the middle of a stream; without a known code it is the server's.
        return "context_length" if CONTEXT_WORDS.search(_told(error)) else "overloaded"
    return _kind_by_status(error)


def _kind_by_status(error: openai.APIStatusError) -> ModelErrorKind:
    known = KIND_BY_STATUS.get(error.status_code)
    if known is not None:
        return known
    if CONTEXT_WORDS.search(_told(error)):
        return "context_length"
    return "overloaded" if error.status_code >= 500 else "invalid"


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, by ``retry-after-ms`` or ``retry-after`` (seconds or a date).

    Args:
        headers: With case-insensitive or lower-case names.
        now: Unix time in seconds, for the date form.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    told = headers.get("retry-after")
    seconds = _number(told)
    if seconds is None and told is not None:
        try:
            seconds = email.utils.parsedate_to_datetime(told).timestamp() - now
        except ValueError:
            return None
    return None if seconds is None else _bounded(seconds)


def _wait(error: Exception) -> float | None:
    if isinstance(error, openai.APIStatusError):
        return retry_after_seconds(error.response.headers, time.time())
    return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _sentence(error: Exception, kind: ModelErrorKind, status: int | None, where: str) -> str:
    if kind == "timeout" and status is None:
        return f"{where} did not answer in time"
    if kind == "unreachable":
        return f"the connection to {where} failed: {_cause(error)}"
    if status is None and not isinstance(error, openai.APIError):
        what = f"{type(error).__name__}: {error}"
        return f"the answer of {where} cannot be understood ({what})"
    answered = f"HTTP {status}" if status is not None else "an error in its stream"
    told = _told(error)
    return f"{where} answered with {answered}" + (f": {told}" if told else "")


def _cause(error: Exception) -> str:
    """The SDK says only "Connection error."; what it wraps says why."""
    cause = error.__cause__ or error
    return f"{type(cause).__name__} {cause}".strip()


def _told(error: Exception) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        told = body.get("message") or body.get("detail") or body.get("error")
        if isinstance(told, str):
            return told
    return body if isinstance(body, str) else str(error)
