"""What was used is read from the words of every SDK and framework, and zero is not a count."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import UNSET

from dragoman_agents.wrapping.tokens import usage_of
from dragoman_bus.protocol.payloads import Usage

FORMS: dict[str, Any] = {
    "OpenAI, Chat Completions": {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
    "OpenAI, Responses": SimpleNamespace(
        input_tokens=9,
        output_tokens=5,
        input_tokens_details=SimpleNamespace(cached_tokens=4),
        output_tokens_details=SimpleNamespace(reasoning_tokens=2),
    ),
    "LangChain": {
        "input_tokens": 9,
        "output_tokens": 5,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 2},
    },
    "Pydantic AI": SimpleNamespace(
        input_tokens=9, output_tokens=5, cache_read_tokens=4, output_reasoning_tokens=2
    ),
    "Agent Framework": {
        "input_token_count": 9,
        "output_token_count": 5,
        "cache_read_input_token_count": 4,
        "reasoning_output_token_count": 2,
    },
    "Google": SimpleNamespace(
        prompt_token_count=9,
        candidates_token_count=3,
        cached_content_token_count=4,
        thoughts_token_count=2,
    ),
}


def test_anthropic_counts_cached_input_beside_the_rest() -> None:
    told = SimpleNamespace(
        input_tokens=3, output_tokens=5, cache_read_input_tokens=4, cache_creation_input_tokens=2
    )

    assert usage_of(told) == Usage(
        input_tokens=9, output_tokens=5, cached_input_tokens=4, source="provider"
    )


@pytest.mark.parametrize("told", FORMS.values(), ids=FORMS)
def test_each_form_says_the_same(told: Any) -> None:
    assert usage_of(told) == Usage(
        input_tokens=9,
        output_tokens=5,
        cached_input_tokens=4,
        reasoning_tokens=2,
        source="provider",
    )


def test_what_is_usage_already_stays_as_it_is() -> None:
    usage = Usage(input_tokens=1, source="estimated")

    assert usage_of(usage) is usage


@pytest.mark.parametrize("told", [None, "many", {}, SimpleNamespace(), {"input_tokens": True}])
def test_what_says_nothing_is_no_usage(told: Any) -> None:
    assert usage_of(told) is None


def test_calls_without_tokens_are_calls_whose_tokens_are_unknown() -> None:
    usage = usage_of(SimpleNamespace(requests=2, input_tokens=0, output_tokens=0))

    assert usage == Usage(calls=2, source="none")
    assert usage.input_tokens is UNSET
