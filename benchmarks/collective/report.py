"""The report: a table in Markdown, the same as JSON, and a picture of accuracy against price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.collective.bus import BusRun
from benchmarks.collective.figures import Figure, Goal
from benchmarks.measuring import machine

MARKERS = "o^vs*XDdPph<>"

__all__ = ["Spread", "document", "markdown", "plot", "written"]

Spread = Mapping[str, Sequence[float]]
"""By row, the mean gain of every repeat of the cross-validation."""


def markdown(
    title: str,
    method: str,
    found: Sequence[Figure],
    goals: Sequence[Goal],
    spread: Spread,
    bus: BusRun | None,
) -> str:
    """Both tables."""
    return "\n".join(
        [f"**{title}.** {method}", "", *_rows(found, spread, bus), "", *_goals(goals), ""]
    )


def document(
    title: str,
    method: str,
    found: Sequence[Figure],
    goals: Sequence[Goal],
    spread: Spread,
    bus: BusRun | None,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """All figures, no answers."""
    return {
        "machine": machine(),
        "title": title,
        "method": method,
        "rows": msgspec.to_builtins(list(found)),
        "gain_of_each_repeat": {key: list(gains) for key, gains in spread.items()},
        "goals": msgspec.to_builtins(list(goals)),
        "bus": None if bus is None else _bus(bus),
        "details": msgspec.to_builtins(dict(details), str_keys=True),
    }


def written(folder: Path, name: str, text: str, figures: Mapping[str, Any]) -> list[Path]:
    """Write both forms; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, data = folder / f"{name}.md", folder / f"{name}.json"
    table.write_text(text)
    data.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    return [table, data]


def plot(path: Path, title: str, found: Sequence[Figure]) -> bool:
    """Draw accuracy against price; whether matplotlib is there to do it."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "dragoman"  # the same picture for the same figures
    from matplotlib import pyplot

    drawn = [row for row in found if row.answered > 0.9 and not row.key.startswith("oracle")]
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    single = next(row for row in found if row.key == "single")
    axes.axhline(100 * single.accuracy.mean, color="0.7", linewidth=1, zorder=0)
    for row, marker in zip(drawn, MARKERS, strict=False):
        below = 100 * (row.gain.mean - row.gain.low)
        axes.errorbar(
            row.price,
            100 * row.accuracy.mean,
            yerr=below,
            marker=marker,
            markersize=7,
            capsize=3,
            linestyle="none",
            label=f"{row.title}: {100 * row.accuracy.mean:.1f} at {row.price:.2f}",
        )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
    axes.minorticks_off()
    axes.set_xlabel("price of a question, beside the best single model (log)")
    axes.set_ylabel("right answers, %")
    axes.set_title(f"{title}\nbars: 95 % of the difference to the best single model", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return True


def _rows(found: Sequence[Figure], spread: Spread, bus: BusRun | None) -> list[str]:
    repeats = max((len(gains) for gains in spread.values()), default=0)
    lines = [
        "| | right, % | beside best single (95 %) "
        f"| {repeats} repeats | price | asked | p50 s | p95 s | over the bus |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        gain = row.gain
        title, accuracy = row.title, f"{100 * row.accuracy.mean:.1f}"
        beside = f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        if row.answered < 0.9:
            accuracy = f"{100 * row.precision:.1f} of the {100 * row.answered:.0f} % answered"
            beside = "-"
        gains = [100 * one for one in spread.get(row.key, ())]
        lines.append(
            f"| {title} | {accuracy} | {beside} | {min(gains):+.1f} to {max(gains):+.1f} "
            f"| {row.price:.2f} | {row.asked:.1f} | {row.p50:.1f} | {row.p95:.1f} "
            f"| {_checked(row.key, bus)} |"
        )
    return lines


def _checked(key: str, bus: BusRun | None) -> str:
    if bus is None or key not in bus.rows:
        return "no"
    row = bus.rows[key]
    return f"{row.verdicts:,}, {row.differ} differ"


def _goals(goals: Sequence[Goal]) -> list[str]:
    lines = ["| goal | wanted | reached | |", "|---|---|---|---|"]
    lines += [
        f"| {goal.name} | {goal.wanted} | {goal.reached} | {'yes' if goal.holds else 'no'} |"
        for goal in goals
    ]
    return lines


def _bus(bus: BusRun) -> dict[str, Any]:
    rows = {
        key: {
            "verdicts": row.verdicts,
            "differ_from_pure_cores": row.differ,
            "price_beside_pure_cores": row.price,
            "questions_per_second": row.per_second,
            "failed": row.failed,
            "members_without_answer": row.missing,
            "errors": row.errors,
        }
        for key, row in bus.rows.items()
    }
    return {
        "rows": rows,
        "failover": msgspec.to_builtins(bus.failures),
        "member_calls": bus.member_calls,
        "seconds": bus.seconds,
    }
