"""Lists the benchmarks, and runs those that are named, one after another.

Each is a program of its own, ``python -m benchmarks.NAME --help``.
"""

from __future__ import annotations

import argparse
import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
HELPERS = {"__main__", "echo_agent", "fleets", "measuring"}


def found() -> dict[str, str]:
    """The benchmarks, and what the first line of each says."""
    lines = {}
    for module in pkgutil.iter_modules([str(FOLDER)]):
        path = FOLDER / (f"{module.name}/__main__.py" if module.ispkg else f"{module.name}.py")
        if module.name not in HELPERS and path.exists():
            words = ast.get_docstring(ast.parse(path.read_text())) or ""
            lines[module.name] = words.partition("\n")[0]
    return lines


def main() -> None:
    """List or run."""
    benchmarks = found()
    listed = "\n".join(f"  {name:12} {line}" for name, line in benchmarks.items())
    options = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\nBenchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("names", nargs="*", metavar="NAME", help="which to run; `all` runs all")
    names = options.parse_args().names
    if not names:
        options.print_help()
        return
    chosen = list(benchmarks) if names == ["all"] else names
    unknown = [name for name in chosen if name not in benchmarks]
    if unknown:
        options.error(f"there is no benchmark {unknown[0]!r}; known: {', '.join(benchmarks)}")
    for name in chosen:
        print(f"\n== {name}: {benchmarks[name]}", flush=True)
        ended = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False)
        if ended.returncode:
            sys.exit(ended.returncode)


if __name__ == "__main__":
    main()
