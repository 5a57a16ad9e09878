"""Protocol versions: ``MAJOR.MINOR``, and whether two sides can talk.

Spec: spec/versioning.md. The major version stands in every subject; within a major version all
minor versions understand each other, since unknown optional members are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["CURRENT_VERSION", "SUPPORTED_VERSIONS", "is_supported", "is_version", "negotiate"]

CURRENT_VERSION = "1.0"
SUPPORTED_VERSIONS: tuple[str, ...] = ("1.0",)

_VERSION = re.compile(r"(?:[1-9][0-9]{0,3})\.(?:0|[1-9][0-9]{0,3})")


def is_version(text: str) -> bool:
    """Whether ``text`` is a well-formed ``MAJOR.MINOR``."""
    return _VERSION.fullmatch(text) is not None


def is_supported(version: str) -> bool:
    """Whether a message of ``version`` is understood here: any minor of a supported major."""
    majors = {known.split(".")[0] for known in SUPPORTED_VERSIONS}
    return is_version(version) and version.split(".")[0] in majors


def negotiate(ours: Iterable[str], theirs: Iterable[str]) -> str | None:
    """The version two sides speak: the highest minor both know of the highest common major.

    Where they share a major version but no minor, the lower of the two highest minors is spoken:
    the newer side leaves out what the older cannot know. ``None`` when no major is shared.
    """
    mine, other = _highest(ours), _highest(theirs)
    common = mine.keys() & other.keys()
    if not common:
        return None
    major = max(common)
    return f"{major}.{min(mine[major], other[major])}"


def _highest(versions: Iterable[str]) -> dict[int, int]:
    highest: dict[int, int] = {}
    for version in versions:
        if is_version(version):
            major, minor = (int(number) for number in version.split("."))
            highest[major] = max(minor, highest.get(major, 0))
    return highest
