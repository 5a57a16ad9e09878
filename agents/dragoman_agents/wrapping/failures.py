"""What the exceptions of frameworks and SDKs mean, told without their types and without keys.

Frameworks wrap what the provider's SDK raised, so the whole chain of causes is looked at. An SDK
that has an adapter is explained by the adapter's own rules; of others the HTTP status is read.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from dragoman_agents.masking import masked
from dragoman_agents.models.errors import ModelError, ModelErrorKind
from dragoman_bus.protocol.errors import DragomanError, LocalError

__all__ = ["explain"]

EXPLAINED_BY: Mapping[str, str] = MappingProxyType(
    {
        "anthropic": "dragoman_agents.models.anthropic_failures",
        "google.genai": "dragoman_agents.models.gemini_failures",
        "openai": "dragoman_agents.models.openai_failures",
    }
)
"""By the package that an exception comes from: the module whose ``model_error`` explains it."""

KIND_BY_NAME: Mapping[str, ModelErrorKind] = MappingProxyType(
    {
        "ChatClientContentFilterException": "refused",
        "AgentContentFilterException": "refused",
        "ContentFilterError": "refused",
        "ModelRefusalError": "refused",
        "ContextOverflowError": "context_length",
        "ModelContextWindowExceededError": "context_length",
        "ModelConnectionError": "unreachable",
        "APIConnectionError": "unreachable",
        "ModelTimeoutError": "timeout",
        "RunTimedOut": "timeout",
        "APITimeoutError": "timeout",
        "ModelBehaviorError": "internal",
        "UnexpectedModelBehavior": "internal",
    }
)
"""Exceptions that say it by their name: of the frameworks, and of SDKs without an adapter."""

LIMITS = frozenset({"UsageLimitExceeded"})
LIBRARIES_OF_HTTP = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "aiohttp"})
BROKEN = frozenset(
    {"TransportError", "NetworkError", "ProtocolError", "TimeoutException", "ClientConnectionError"}
)
"""What those libraries raise when there is no answer; an answer with an error is no such thing."""
LONGEST_CHAIN = 16
SHOWN = 500


def explain(error: BaseException) -> DragomanError | None:
    """The error that says what ``error`` means; ``None`` when it is the target's own affair."""
    for link in _chain(error):
        if isinstance(link, DragomanError):
            return link
        found = _meaning(link)
        if found is not None:
            return found
    return None


def _meaning(error: BaseException) -> DragomanError | None:
    names = [kind.__name__ for kind in type(error).__mro__]
    if LIMITS.intersection(names):
        return LocalError(_clean(str(error)), code="LIMIT_EXCEEDED", side_effects="possible")
    if isinstance(error, Exception):
        explained = _by_adapter(error)
        if explained is not None:
            return explained
    status = _status(error)
    if status is not None:
        return _by_status(error, status)
    kind = next((KIND_BY_NAME[name] for name in names if name in KIND_BY_NAME), None)
    if kind is None and _is_broken_connection(error, names):
        kind = "timeout" if "Timeout" in type(error).__name__ else "unreachable"
    return None if kind is None else ModelError(kind, _sentence(error, kind))


def _is_broken_connection(error: BaseException, names: list[str]) -> bool:
    package = type(error).__module__.partition(".")[0]
    return package in LIBRARIES_OF_HTTP and not BROKEN.isdisjoint(names)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what led to it. What an SDK raised comes before what wraps it."""
    links: list[BaseException] = []
    waiting = deque([error])
    while waiting and len(links) < LONGEST_CHAIN:
        link = waiting.popleft()
        if link not in links:
            links.append(link)
            waiting.extend(_behind(link))
    known = [one for one in links if _rules(one) is not None or isinstance(one, DragomanError)]
    yield from known
    yield from (one for one in links if one not in known)


def _behind(error: BaseException) -> Iterator[BaseException]:
    """What ``error`` was raised for: its parts, and its cause."""
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield cause


def _rules(error: BaseException) -> str | None:
    """The module that explains the exceptions of the SDK which this one comes from."""
    for kind in type(error).__mro__:
        for package, rules in EXPLAINED_BY.items():
            if f"{kind.__module__}.".startswith(f"{package}."):
                return rules
    return None


def _by_adapter(error: Exception) -> ModelError | None:
    rules = _rules(error)
    if rules is None:
        return None
    try:
        told = importlib.import_module(rules).model_error(error, where=_where(error))
    except (ImportError, AttributeError):  # an SDK older than the adapter
        return None
    return ModelError(
        told.kind,
        "the provider refused the key" if told.kind == "auth" else _clean(told.message),
        retry_after=told.retry_after,
        status=told.status,
    )


def _by_status(error: BaseException, status: int) -> ModelError:
    from dragoman_agents.models.http_failures import kind_of_status, retry_after_seconds

    headers = _headers(error)
    kind = kind_of_status(status, str(error))
    return ModelError(
        kind,
        "the provider refused the key" if kind == "auth" else _sentence(error, kind),
        status=status,
        retry_after=None if headers is None else retry_after_seconds(headers, time.time()),
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status, where an SDK keeps it; other names for it are used for other things too."""
    found = getattr(error, "status_code", None)
    is_error = isinstance(found, int) and not isinstance(found, bool) and 400 <= found < 600
    return found if is_error else None


def _headers(error: BaseException) -> Mapping[str, str] | None:
    for holder in (error, getattr(error, "response", None)):
        headers = getattr(holder, "headers", None)
        if isinstance(headers, Mapping):
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return None


def _where(error: Exception) -> str:
    """The server that was asked, without path and password."""
    request = getattr(error, "request", None)
    parts = urlsplit(str(getattr(request, "url", "")))
    if not parts.hostname:
        return "the model's server"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _sentence(error: BaseException, kind: ModelErrorKind) -> str:
    words = _clean(f"{type(error).__name__}: {error}")
    return f"the model did not answer in time ({words})" if kind == "timeout" else words


def _clean(text: str) -> str:
    """``text`` without secrets, at bearable length."""
    text = masked(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
