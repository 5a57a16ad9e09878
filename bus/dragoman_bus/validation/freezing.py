"""Released schemas never change: a digest over each version's folder, kept beside them.

Spec: spec/versioning.md. ``schemas/digests.json`` lists the released versions; ``draft`` is free.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dragoman_bus.validation.difference import Difference, compare

__all__ = ["changed_versions", "folder_digest", "narrowing_changes"]


def folder_digest(folder: Path) -> str:
    """``sha256:`` over the names and contents of all files below ``folder``, in order."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix().encode()
            content = path.read_bytes()
            digest.update(b"%d:%s%d:%s" % (len(name), name, len(content), content))
    return f"sha256:{digest.hexdigest()}"


def changed_versions(schemas: Path) -> list[str]:
    """The released versions whose folder is missing or differs from its digest."""
    return [
        version
        for version, digest in _released(schemas).items()
        if folder_digest(schemas / version) != digest
    ]


def narrowing_changes(schemas: Path, major: int) -> list[Difference]:
    """What the draft of ``major`` may refuse that its latest released version accepts.

    A minor version may not (spec/versioning.md, what a minor version may change).
    """
    minors = [
        int(minor)
        for version in _released(schemas)
        for its_major, _, minor in [version.partition(".")]
        if int(its_major) == major
    ]
    if not minors:
        return []
    released = schemas / f"{major}.{max(minors)}"
    return [difference for difference in compare(released, schemas / "draft") if difference.breaks]


def _released(schemas: Path) -> dict[str, str]:
    listed: dict[str, str] = json.loads((schemas / "digests.json").read_bytes())["released"]
    return listed
