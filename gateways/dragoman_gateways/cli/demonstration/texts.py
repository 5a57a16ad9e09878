"""Where the examples are: inside the wheel, or at the repository root in a checkout."""

from __future__ import annotations

from pathlib import Path

from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["example_text", "examples_directory", "shortest_path"]


def examples_directory() -> Path:
    """The folder with the example agents and their texts.

    Raises:
        NotConfigured: this installation has none.
    """
    package = Path(__file__).parents[2]
    for candidate in (package / "examples", package.parents[1] / "examples"):
        if (candidate / "texts").is_dir():
            return candidate
    raise NotConfigured(
        "the example agents are not part of this installation; run the demo in a clone of the "
        "repository"
    )


def shortest_path(path: Path) -> Path:
    """A path as somebody in this directory would type it."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path


def example_text(name: str) -> str:
    """One of the shipped texts."""
    return (examples_directory() / "texts" / name).read_text(encoding="utf-8")
