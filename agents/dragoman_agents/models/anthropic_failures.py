"""What the failures of Anthropic's API mean: SDK exceptions become ``ModelError``.

The code that names the cause decides, then the type of the error, then the HTTP status and its
words. Needs the ``anthropic`` package, so only the adapter imports this module.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

import anthropic

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
    "contract_spend_limit_reached": "quota",
    "enforced_spend_limit_reached": "quota",
    "linked_organization_billing_unavailable": "quota",
    "linked_organization_spend_limit_reached": "quota",
    "organization_on_hold": "auth",
    "ramp_limit_exceeded": "rate_limited",
    "user_profile_billing_not_authorized": "quota",
    "user_profile_not_billable": "quota",
}
"""``error.details.error_code``: a spent limit comes with statuses 402, 403 and 429."""

KIND_BY_TYPE: Mapping[str, ModelErrorKind] = {
    "api_error": "overloaded",
    "authentication_error": "auth",
    "billing_error": "quota",
    "not_found_error": "unavailable",
    "overloaded_error": "overloaded",
    "permission_error": "auth",
    "rate_limit_error": "rate_limited",
    "timeout_error": "timeout",
}
"""``error.type``; ``invalid_request_error`` says too little."""

SPENT_WORDS = re.compile(r"credit balance|usage limits?|spend(ing)? limit", re.IGNORECASE)
"""A limit that the account's owner set is told as an invalid request."""


def model_error(error: Exception, *, where: str) -> ModelError:
    """The ``ModelError`` that says what ``error`` means; see ``http_failures.explained``."""
    told = Told()
    if isinstance(error, anthropic.APIStatusError):
        # An error event in the middle of a stream stands in an answer whose status is 200.
        status = error.status_code if error.status_code >= 300 else None
        wait = retry_after_seconds(error.response.headers, time.time())
        told = Told(status, wait, _told(error))
    return explained(error, kind_of_failure(error), told, where=where)


def kind_of_failure(error: Exception) -> ModelErrorKind:
    """The kind of any exception that a call through the SDK can raise."""
    if isinstance(error, anthropic.APITimeoutError):
        return "timeout"
    if isinstance(error, anthropic.APIConnectionError):
        return "unreachable"
    if not isinstance(error, anthropic.APIStatusError):
        return connection_kind(error) or "internal"
    told = KIND_BY_CODE.get(error.error_code or "") or KIND_BY_TYPE.get(str(error.type))
    if told is not None:
        return told
    words = _told(error)
    if error.type == "invalid_request_error":
        if speaks_of_context(words):
            return "context_length"
        return "quota" if SPENT_WORDS.search(words) else "invalid"
    # An error event of an unknown type is the server's trouble.
    return kind_of_status(error.status_code, words) if error.status_code >= 300 else "overloaded"


def _told(error: anthropic.APIStatusError) -> str:
    return error.api_message if isinstance(error.api_message, str) else error.message
