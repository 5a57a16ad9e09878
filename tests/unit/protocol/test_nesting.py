"""Depth of documents: as a parser would count it, whatever stands in strings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.protocol.nesting import is_too_deep

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\ab'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[{"\\'), inner, max_size=4)
    ),
    max_leaves=40,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(VALUES, st.integers(0, 6))
def test_a_document_is_as_deep_as_its_value(value: Any, maximum: int) -> None:
    document = json.dumps(value, ensure_ascii=False).encode()
    assert is_too_deep(document, maximum) is (depth_of(value) > maximum)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_what_never_closes_is_too_deep(opening: bytes) -> None:
    assert is_too_deep(opening * 200)


def test_wide_documents_and_brackets_in_strings_are_not_deep() -> None:
    assert not is_too_deep(json.dumps([{"row": [n]} for n in range(1000)]).encode())
    assert not is_too_deep(json.dumps("[{" * 1000).encode())
    assert is_too_deep(b"[" * 129 + b"]" * 129)
    assert not is_too_deep(b"[" * 128 + b"]" * 128)
