"""Writes the generated parts of ``spec/`` (lifecycle, errors, AsyncAPI) and of the docs.

    python tools/generate.py            rewrite what is out of date
    python tools/generate.py --check    change nothing; exit 1 and say what is out of date

The sources are ``dragoman_bus.protocol`` (lifecycle, subjects, messages), ``errors.json``, and the
figures in ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A checkout need not be installed to be checked.
sys.path[:0] = [str(ROOT / "bus"), str(ROOT / "tools")]

from asyncapi import asyncapi_document  # noqa: E402
from benchmark_tables import benchmark_table  # noqa: E402
from tables import error_table, lifecycle_section  # noqa: E402

SPEC = ROOT / "spec"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
COLLECTIVE = ROOT / "docs" / "collective.md"
RESULTS = ROOT / "benchmarks" / "results"
MEASURED = ("echo", "durable", "a2a", "model_call", "artifacts", "registry")


def replace_between(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between the markers of ``name``.

    Raises:
        ValueError: the markers do not stand there exactly once.
    """
    opening, closing = f"<!-- generated:{name} -->", f"<!-- /generated:{name} -->"
    if text.count(opening) != 1 or text.count(closing) != 1:
        raise ValueError(f"the markers of {name!r} must stand there exactly once")
    before, rest = text.split(opening)
    _, after = rest.split(closing)
    return f"{before}{opening}\n{content.strip()}\n{closing}{after}"


def generated_files() -> dict[Path, str]:
    """What every file with generated content should contain."""
    lifecycle, errors = SPEC / "lifecycle.md", SPEC / "errors.md"
    return {
        lifecycle: replace_between(
            lifecycle.read_text(encoding="utf-8"), "lifecycle", lifecycle_section()
        ),
        errors: replace_between(errors.read_text(encoding="utf-8"), "errors", error_table()),
        BENCHMARKS: benchmarks_page(),
        COLLECTIVE: collective_page(),
        SPEC / "asyncapi.json": json.dumps(asyncapi_document(), indent=2) + "\n",
    }


def benchmarks_page() -> str:
    """``docs/benchmarks.md`` with the figures that were measured last."""
    text = BENCHMARKS.read_text(encoding="utf-8")
    for name in MEASURED:
        text = replace_between(text, name, benchmark_table(name))
    return text


def collective_page() -> str:
    """``docs/collective.md`` with the tables that its benchmark wrote."""
    text = COLLECTIVE.read_text(encoding="utf-8")
    for name, file in (("recorded", "collective.md"), ("simulated", "collective-simulated.md")):
        text = replace_between(text, name, (RESULTS / file).read_text(encoding="utf-8"))
    return text


def outdated(files: dict[Path, str]) -> list[Path]:
    """The files whose content differs from what it should be."""
    return [
        path
        for path, content in files.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != content
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated parts of spec/.")
    parser.add_argument("--check", action="store_true", help="change nothing, report only")
    check = parser.parse_args(arguments).check
    files = generated_files()
    stale = outdated(files)
    for path in stale:
        name = path.relative_to(ROOT)
        if check:
            print(f"{name} is out of date; run: python tools/generate.py", file=sys.stderr)
        else:
            path.write_text(files[path], encoding="utf-8")
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
