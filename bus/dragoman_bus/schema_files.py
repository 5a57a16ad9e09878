"""Where the JSON Schemas lie: inside the wheel, or at the repository root in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["schema_directory"]


def schema_directory(version: str = "draft") -> Path:
    """The folder of one version's schemas: ``draft`` or a released ``MAJOR.MINOR``."""
    package = Path(__file__).parent
    inside = package / "schemas"
    return (inside if inside.is_dir() else package.parent.parent / "schemas") / version
