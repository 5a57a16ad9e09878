"""Subjects and wildcards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.transports.matching import check_pattern, check_subject, subject_matches

TOKENS = st.text("abc", min_size=1, max_size=3)
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("a", "a", True),
        ("a", "A", False),
        ("a", "a.b", False),
        ("a.b", "a", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.c", False),
        (">", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.b", True),
        ("*.>", "a.b.c", True),
    ],
)
def test_wildcards_match_as_on_nats(pattern: str, subject: str, matches: bool) -> None:
    assert subject_matches(pattern, subject) is matches


@given(SUBJECTS)
def test_a_subject_matches_itself_and_each_of_its_generalisations(tokens: list[str]) -> None:
    subject = ".".join(tokens)
    assert subject_matches(subject, subject)
    for position in range(len(tokens)):
        assert subject_matches(
            ".".join([*tokens[:position], "*", *tokens[position + 1 :]]), subject
        )
        assert subject_matches(".".join([*tokens[:position], ">"]), subject)
    assert not subject_matches(f"{subject}.>", subject)
    assert not subject_matches(f"{subject}.*", subject)


@pytest.mark.parametrize("wrong", ["", ".", "a.", ".a", "a..b", "a b", "a\t", "a*", "a.>.b", ">>"])
def test_a_malformed_pattern_is_refused(wrong: str) -> None:
    with pytest.raises(ProtocolError):
        check_pattern(wrong)


@pytest.mark.parametrize("wrong", ["", "a b", "a\r\nPUB x 0\r\n"])
def test_white_space_never_gets_into_a_subject(wrong: str) -> None:
    with pytest.raises(ProtocolError):
        check_subject(wrong)
