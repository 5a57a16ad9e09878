"""The tables of ``docs/benchmarks.md``, from what the benchmarks wrote into their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
MACHINE = ("cpu", "cores", "load")


def benchmark_table(name: str) -> str:
    """The table of one benchmark, and what it ran on."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return f"Not measured yet: `python -m benchmarks {name}`."
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = _sides(result) if result.get("names") else _list(result)
    return "\n".join([*rows, "", _ran_on(result["machine"])])


def _sides(result: dict[str, Any]) -> list[str]:
    """Sides beside each other, with their ratio to the first."""
    names, figures, goals = result["names"], result["figures"], result["goals"]
    anchor, *others = names
    head = f"| | {names[anchor]} |" + "".join(f" {names[kind]} | ratio |" for kind in others)
    rows = [head + " goal |", "|---" * (3 + 2 * len(others)) + "|"]
    for name, first in figures[anchor].items():
        row = f"| {name} | {_number(first)} |"
        for kind in others:
            value = figures[kind][name]
            row += f" {_number(value)} | {value / first:.3g} |"
        rows.append(f"{row} {_escape(goals.get(name, ''))} |")
    return rows


def _list(result: dict[str, Any]) -> list[str]:
    """One figure a row, under what it belongs to."""
    rows = ["| | | | goal |", "|---|---|---|---|"]
    for title, figures in result["figures"].items():
        for name, value in figures.items():
            goal = _escape(result.get("goals", {}).get(name, ""))
            rows.append(f"| {title} | {name} | {_number(value)} | {goal} |")
            title = ""
    return rows


def _number(value: float) -> str:
    for limit, digits in ((100, 0), (10, 1), (0, 2)):
        if abs(value) >= limit:
            return f"{value:,.{digits}f}"
    return str(value)


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _ran_on(machine: dict[str, str]) -> str:
    versions = [f"{name} {value}" for name, value in machine.items() if name not in MACHINE]
    load = machine.get("load", "unknown")
    where = f"{machine['cores']} cores of an {machine['cpu']}, load {load} before"
    return f"{where}; {', '.join(versions)}."
