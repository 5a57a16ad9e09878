"""Names that others gave, made into names that the bus takes."""

from __future__ import annotations

import re

__all__ = ["token_of"]

LONGEST = 63


def token_of(name: str, *, otherwise: str = "") -> str:
    """``name`` as 1 to 63 of lower-case letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:LONGEST] or otherwise
