"""RFC 8785 canonical JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_bus.protocol.canonical import canonical_json, digest_of, digest_of_document

NUMBERS = [
    (0.0, "0"),
    (-0.0, "0"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (9007199254740992.0, "9007199254740992"),
    (295147905179352830000.0, "295147905179352830000"),
    (9.999999999999997e22, "9.999999999999997e+22"),
    (1e23, "1e+23"),
    (1e21, "1e+21"),
    (0.000001, "0.000001"),
    (1e-7, "1e-7"),
    (1.5e-7, "1.5e-7"),
    (333333333.33333329, "333333333.3333333"),
    (-1.5, "-1.5"),
    (0.00001234, "0.00001234"),
]


@pytest.mark.parametrize(("value", "expected"), NUMBERS)
def test_numbers_are_spelled_as_ecmascript_does(value: float, expected: str) -> None:
    assert canonical_json(value).decode() == expected


def test_members_are_sorted_by_utf16_code_units() -> None:
    members = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}

    ordered = list(json.loads(canonical_json(members)))

    assert ordered == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_what_json_lacks_is_refused() -> None:
    for value in (float("nan"), float("inf"), object()):
        with pytest.raises(ValueError, match="JSON"):
            canonical_json(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values.filter(lambda value: "inf" not in repr(value)))
def test_canonical_json_read_back_is_spelled_the_same(value: object) -> None:
    canonical = canonical_json(value)

    assert canonical_json(json.loads(canonical)) == canonical


@given(json_values.filter(lambda value: "inf" not in repr(value)))
def test_a_document_is_spelled_the_same_beside_a_number_with_a_fraction(value: object) -> None:
    # A fraction, or a name outside ASCII, takes the way that is spelled out in Python.
    assert canonical_json([value, 0.5]) == b"[" + canonical_json(value) + b",0.5]"
    assert canonical_json({"\u00e9": value}) == b'{"\xc3\xa9":' + canonical_json(value) + b"}"


@given(json_values.filter(lambda value: "inf" not in repr(value)))
def test_a_document_has_the_digest_of_what_it_holds(value: object) -> None:
    for document in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert digest_of_document(document.encode()) == digest_of(json.loads(document))


def test_a_document_is_told_from_another_by_names_outside_ascii() -> None:
    backwards = '{"\ufb33": 0.50, "\U0001f600": 1E2, "a": -0.0}'

    assert digest_of_document(backwards.encode()) == digest_of(
        {"a": 0, "\U0001f600": 100, "\ufb33": 0.5}
    )


@pytest.mark.parametrize("document", [b"", b"{", b"1e400", b"\xff", b'"\xff"', b'{"a": NaN}'])
def test_a_document_that_holds_no_value_has_no_digest(document: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        digest_of_document(document)


def test_the_digest_does_not_depend_on_the_order_of_members() -> None:
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
