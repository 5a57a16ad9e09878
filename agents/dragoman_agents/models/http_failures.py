"""What the failures of all providers reached by HTTP have in common: statuses, waits, sentences.

What only one provider says (codes, types, its SDK's exceptions) stands in its own module, as in
``openai_failures``.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from dragoman_agents.models.errors import ModelError, ModelErrorKind

__all__ = [
    "KIND_BY_STATUS",
    "Told",
    "bounded_wait",
    "connection_kind",
    "explained",
    "kind_of_status",
    "retry_after_seconds",
    "sentence",
    "speaks_of_context",
]

LONGEST_WAIT = 86_400.0

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

CONTEXT_WORDS = re.compile(
    r"context (length|size|window|limit)|maximum context|too many (input )?tokens"
    r"|prompt is too long|exceeds the maximum number of tokens",
    re.IGNORECASE,
)


class Told(NamedTuple):
    """What a failure says beside its kind.

    Attributes:
        status: The HTTP status, where there was one.
        wait: Seconds after which the provider may be asked again.
        words: The provider's own; ``None`` when it is no provider that failed.
    """

    status: int | None = None
    wait: float | None = None
    words: str | None = None


def explained(error: Exception, kind: ModelErrorKind, told: Told, *, where: str) -> ModelError:
    """The ``ModelError`` that says what ``error`` means. Its message is not yet redacted.

    Args:
        error: Whatever a call through an SDK raised.
        kind: What it means.
        told: What it says.
        where: The server's address, without secrets.
    """
    if isinstance(error, ModelError):
        return error
    message = sentence(error, kind, where, status=told.status, told=told.words)
    return ModelError(kind, message, status=told.status, retry_after=told.wait)


def kind_of_status(status: int, told: str) -> ModelErrorKind:
    """The kind of an HTTP error, by its status and, where that says little, by its words."""
    known = KIND_BY_STATUS.get(status)
    if known is not None:
        return known
    if speaks_of_context(told):
        return "context_length"
    return "overloaded" if status >= 500 else "invalid"


def speaks_of_context(told: str) -> bool:
    """Whether a provider's words say that the request is too long for the model."""
    return CONTEXT_WORDS.search(told) is not None


def connection_kind(error: BaseException) -> ModelErrorKind | None:
    """The kind of a failure below HTTP; ``None`` when the connection is not to blame.

    SDKs wrap what happens before the answer begins; what breaks in the middle of a stream comes
    from the HTTP library as it is.
    """
    import httpx2  # each of the SDKs that ask this brings it; who asks for statuses may have none

    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return "timeout"
    if isinstance(error, OSError | httpx2.TransportError | httpx2.StreamError):
        return "unreachable"
    return None


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, by ``retry-after-ms`` or ``retry-after`` (seconds or a date).

    Args:
        headers: With case-insensitive or lower-case names.
        now: Unix time in seconds, for the date form.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return bounded_wait(milliseconds / 1000)
    told = headers.get("retry-after")
    seconds = _number(told)
    if seconds is None and told is not None:
        try:
            seconds = email.utils.parsedate_to_datetime(told).timestamp() - now
        except ValueError:
            return None
    return None if seconds is None else bounded_wait(seconds)


def bounded_wait(seconds: float) -> float:
    """A wait that is neither negative nor longer than a day."""
    return min(max(seconds, 0.0), LONGEST_WAIT)


def sentence(
    error: BaseException, kind: ModelErrorKind, where: str, *, status: int | None, told: str | None
) -> str:
    """What happened, in one sentence.

    Args:
        error: What the call raised.
        kind: What it means.
        where: The server's address, without secrets.
        status: The HTTP status, where there was one.
        told: The provider's own words; ``None`` when it is no provider that failed.
    """
    if kind == "timeout" and status is None:
        return f"{where} did not answer in time"
    if kind == "unreachable":
        # SDKs say only "Connection error."; what they wrap says why.
        cause = error.__cause__ or error
        return f"the connection to {where} failed: {type(cause).__name__} {cause}".strip()
    if status is None and told is None:
        what = f"{type(error).__name__}: {error}"
        return f"the answer of {where} cannot be understood ({what})"
    answered = f"HTTP {status}" if status is not None else "an error in its stream"
    return f"{where} answered with {answered}" + (f": {told}" if told else "")


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
