"""How deep a JSON document is nested, found without building it.

Spec: spec/security.md, SEC-3. What is nested deeper than a parser's or a validator's stack costs a
receiver more than it costs the sender.
"""

from __future__ import annotations

import re

__all__ = ["MAXIMUM_DEPTH", "is_too_deep"]

MAXIMUM_DEPTH = 128

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_ALIKE = bytes.maketrans(b"{}", b"[]")


def is_too_deep(document: bytes, maximum: int = MAXIMUM_DEPTH) -> bool:
    """Whether arrays and objects are nested more than ``maximum`` levels deep."""
    # Two scans at memory speed let nearly every message pass.
    if document.count(b"[") + document.count(b"{") <= maximum:
        return False
    brackets = _STRING.sub(b"", document).translate(_ALIKE, _NO_BRACKET)
    for _ in range(maximum):
        # Each round takes the innermost level away, until nothing is left or nothing closes.
        brackets, before = brackets.replace(b"[]", b""), brackets
        if len(brackets) == len(before):
            break
    return b"[" in brackets
