"""Released schemas never change: a digest over each version's folder, kept beside them.

Spec: spec/versioning.md. ``schemas/digests.json`` lists the released versions; ``draft`` is free.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

__all__ = ["changed_versions", "folder_digest"]


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
    released: dict[str, str] = json.loads((schemas / "digests.json").read_bytes())["released"]
    return [
        version
        for version, digest in released.items()
        if folder_digest(schemas / version) != digest
    ]
