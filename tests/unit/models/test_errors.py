"""Kinds of model errors: their codes, whether to retry, and what travels with them."""

from __future__ import annotations

import httpx2
import openai
import pytest

from dragoman_agents.models import MODEL_ERROR_KINDS, ModelError, ModelErrorKind
from dragoman_agents.models.http_failures import retry_after_seconds
from dragoman_agents.models.openai_failures import kind_of_failure
from dragoman_bus.protocol.error_registry import error_definitions
from dragoman_bus.protocol.errors import DragomanError

NOW = 1_793_534_400.0  # 2026-11-01T12:00:00Z


@pytest.mark.parametrize("kind", [kind for kind in MODEL_ERROR_KINDS if kind != "internal"])
def test_every_kind_agrees_with_the_registry_of_codes(kind: ModelErrorKind) -> None:
    code, retryable = MODEL_ERROR_KINDS[kind]
    assert error_definitions()[code].retryable is retryable


def test_every_model_code_of_the_registry_has_a_kind() -> None:
    known = {code for code in error_definitions() if code.startswith("MODEL_")}
    assert known == {facts.code for facts in MODEL_ERROR_KINDS.values()} - {"INTERNAL"}


def test_a_model_error_carries_what_a_caller_needs() -> None:
    error = ModelError("rate_limited", "slow", retry_after=2.0, status=429, model="m")
    assert isinstance(error, DragomanError)
    assert (error.code, error.retryable, error.retry_after) == ("MODEL_RATE_LIMITED", True, 2.0)
    assert error.details == {"kind": "rate_limited", "status": 429, "model": "m"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e99"}, 86_400.0),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sun, 01 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(headers, NOW) == seconds


def test_an_unexpected_exception_is_internal_and_a_broken_socket_unreachable() -> None:
    request = httpx2.Request("POST", "http://model")
    assert kind_of_failure(KeyError("choices")) == "internal"
    assert kind_of_failure(ConnectionResetError()) == "unreachable"
    assert kind_of_failure(openai.APITimeoutError(request)) == "timeout"
