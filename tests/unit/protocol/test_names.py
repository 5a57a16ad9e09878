"""Subjects, tokens, versions, timestamps and sources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.identifiers import new_identifier
from dragoman_bus.protocol import subjects
from dragoman_bus.protocol.envelopes import agent_source, client_source, parse_source
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.timestamps import format_timestamp, parse_timestamp
from dragoman_bus.protocol.versions import is_supported, is_version, negotiate

tokens = st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True)


@given(tokens, tokens)
def test_subjects_of_tokens_have_a_fixed_number_of_tokens(name: str, other: str) -> None:
    assert subjects.agent_subject(name) == f"dragoman.v1.rpc.{name}"
    assert subjects.skill_subject(name).count(".") == 3
    assert subjects.instance_subject(name, "cancel").count(".") == 4
    assert subjects.event_subject(name, other).count(".") == 4
    assert subjects.parse_registry_key(subjects.lease_key(name, other)) == ("inst", name, other)


@given(st.text().filter(lambda text: not subjects.is_token(text)))
def test_nothing_but_a_token_gets_into_a_subject(text: str) -> None:
    for build in (subjects.agent_subject, subjects.skill_subject):
        with pytest.raises(ProtocolError):
            build(text)


@pytest.mark.parametrize("name", ["", "*", ">", "a.b", "A", "a b", "a\n", "ä", "x" * 64])
def test_wildcards_and_other_traps_are_not_tokens(name: str) -> None:
    assert not subjects.is_token(name)


def test_an_operation_that_does_not_exist_has_no_subject() -> None:
    with pytest.raises(ProtocolError, match="not an operation"):
        subjects.instance_subject("a", "explode")


def test_foreign_registry_keys_are_not_ours() -> None:
    for key in ("inst", "inst.a", "other.a.b", "inst.A.b", "inst.a.b.c"):
        assert subjects.parse_registry_key(key) is None


@pytest.mark.parametrize("version", ["1.0", "1.9", "12.34"])
def test_versions_are_major_and_minor(version: str) -> None:
    assert is_version(version)


@pytest.mark.parametrize("version", ["1", "1.0.0", "v1.0", "0.3", "1.00", "", "1.x"])
def test_everything_else_is_not_a_version(version: str) -> None:
    assert not is_version(version)
    assert not is_supported(version)


@pytest.mark.parametrize(
    ("ours", "theirs", "spoken"),
    [
        (["1.0"], ["1.0"], "1.0"),
        (["1.0", "1.1"], ["1.0"], "1.0"),
        (["1.2"], ["1.1"], "1.1"),
        (["1.0", "2.0"], ["2.1", "1.0"], "2.0"),
        (["1.0"], ["2.0"], None),
        (["1.0"], ["nonsense"], None),
    ],
)
def test_two_sides_speak_the_highest_version_both_know(
    ours: list[str], theirs: list[str], spoken: str | None
) -> None:
    assert negotiate(ours, theirs) == spoken
    assert negotiate(theirs, ours) == spoken


@given(st.integers(0, 4_000_000_000_000_000).map(lambda us: us / 1_000_000))
def test_timestamps_read_back(seconds: float) -> None:
    assert parse_timestamp(format_timestamp(seconds)) == pytest.approx(seconds, abs=2e-6)


def test_a_leap_second_and_nanoseconds_are_moments() -> None:
    leap = parse_timestamp("2016-12-31T23:59:60Z")

    assert leap == parse_timestamp("2017-01-01T00:00:00Z")
    assert parse_timestamp("2017-01-01T00:00:00.123456789Z") == pytest.approx(leap + 0.123456789)


def test_a_day_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not a moment"):
        parse_timestamp("2026-02-30T00:00:00Z")


def test_an_agent_is_known_by_its_source() -> None:
    assert parse_source(agent_source("a", "b")) == ("a", "b")
    assert parse_source(client_source("c")) is None
    assert parse_source("/agents/a/b/c") is None


def test_identifiers_are_unique_sortable_tokens() -> None:
    made = [new_identifier() for _ in range(10_000)]

    assert len(set(made)) == len(made)
    assert all(subjects.is_token(name) and len(name) == 32 for name in made)
