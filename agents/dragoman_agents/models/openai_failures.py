"""What an OpenAI-compatible server's failures mean: SDK exceptions become ``ModelError``.

The HTTP status decides, unless the body's ``code``, ``type`` or words say more. Needs the
``openai`` package, so only the adapter imports this module.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import openai

from dragoman_agents.models.errors import ModelError, ModelErrorKind
from dragoman_agents.models.http_failures import (
    Told,
    connection_kind,
    explained,
    kind_of_status,
    retry_after_seconds,
    speaks_of_context,
)

__all__ = ["kind_of_failure", "model_error"]

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
    "invalid_prompt": "refused",
    "model_not_found": "unavailable",
    "overloaded_error": "overloaded",
    "permission_error": "auth",
    "rate_limit_exceeded": "rate_limited",
    "server_error": "overloaded",
    "string_above_max_length": "context_length",
}


def model_error(error: Exception, *, where: str) -> ModelError:
    """The ``ModelError`` that says what ``error`` means; see ``http_failures.explained``."""
    told = Told(words=_told(error) if isinstance(error, openai.APIError) else None)
    if isinstance(error, openai.APIStatusError):
        wait = retry_after_seconds(error.response.headers, time.time())
        told = Told(error.status_code, wait, told.words)
    return explained(error, kind_of_failure(error), told, where=where)


def kind_of_failure(error: Exception) -> ModelErrorKind:
    """The kind of any exception that a call through the SDK can raise."""
    if isinstance(error, openai.APITimeoutError):
        return "timeout"
    if isinstance(error, openai.APIConnectionError):
        return "unreachable"
    if not isinstance(error, openai.APIError):
        return connection_kind(error) or "internal"
    told = KIND_BY_CODE.get(error.code or "") or KIND_BY_CODE.get(error.type or "")
    if told is not None:
        return told
    if not isinstance(error, openai.APIStatusError):
        # An error event in the middle of a stream; without a known code it is the server's.
        return "context_length" if speaks_of_context(_told(error)) else "overloaded"
    return kind_of_status(error.status_code, _told(error))


def _told(error: Exception) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        told = body.get("message") or body.get("detail") or body.get("error")
        if isinstance(told, str):
            return told
    return body if isinstance(body, str) else str(error)
