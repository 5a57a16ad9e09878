"""Does work in tandem pay? Real ensembles over recorded or simulated answers.

Without options, models are simulated: seeded, with errors that correlate as those of real models
do. With --answers, recorded answers of real models are replayed from a folder (its format:
benchmarks/collective/recorded.py). Everything that is learned (weights, thresholds, who votes,
stages, routing) is learned on one part of the questions and reported on the other.

The first round of the cross-validation runs over the bus: a real nats-server, members and
ensembles as agents. The other rounds, with other splits, show by how much the figures vary.
Latencies are on a simulated clock, since recordings have none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import structs

from benchmarks.collective.bus import BusRun, over_the_bus
from benchmarks.collective.cases import Dataset, Split, splits
from benchmarks.collective.evaluating import SplitResult, evaluate
from benchmarks.collective.experiments import failover
from benchmarks.collective.figures import (
    DESIGN,
    SIMULATION,
    Figure,
    Goal,
    Wanted,
    details,
    figures,
    goals,
)
from benchmarks.collective.policies import Outcome
from benchmarks.collective.recorded import load
from benchmarks.collective.report import document, markdown, plot, written
from benchmarks.collective.simulated import simulate
from benchmarks.measuring import RESULTS

__all__ = ["main", "run"]

FAILOVER_TASKS = 20_000


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.collective",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--answers", type=Path, metavar="FOLDER", help="recorded answers to report on")
    add(
        "--learn-from",
        type=Path,
        metavar="FOLDER",
        help="learn from all recorded answers there, and report on all of --answers",
    )
    add("--questions", type=int, default=4000, help="how many to simulate (default: 4000)")
    add("--seed", type=int, default=1, help="of the simulation and of the splits (default: 1)")
    add("--folds", type=int, default=5, help="parts of the cross-validation (default: 5)")
    add("--repeats", type=int, default=3, help="rounds, the first over the bus (default: 3)")
    add("--no-bus", action="store_true", help="decide by the pure cores only, which is quick")
    add(
        "--bus-failover",
        type=int,
        default=1000,
        metavar="TASKS",
        help="tasks of failover over the bus, on the real clock (default: 1000)",
    )
    add(
        "--output",
        type=Path,
        default=RESULTS,
        metavar="FOLDER",
        help="where table, JSON and picture go (default: benchmarks/results)",
    )
    add("--check", action="store_true", help="end with status 1 when a goal is not reached")
    options = parser.parse_args(arguments)
    if options.learn_from and not options.answers:
        parser.error("--learn-from needs --answers, the questions to report on")
    if options.folds < 2 or options.repeats < 1 or options.questions < 500:
        parser.error("at least 2 folds, 1 repeat and 500 questions are needed")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the status."""
    options = options_of(arguments)
    dataset, divided, method = _prepared(options)
    print(f"{dataset.title}\nlearning, {len(divided)} splits", flush=True)
    found, reached, text, data = run(
        dataset,
        divided,
        method,
        per_repeat=1 if options.learn_from else options.folds,
        bus_failover=None if options.no_bus else options.bus_failover,
        seed=options.seed,
        wanted=DESIGN if options.answers else SIMULATION,
    )
    print(f"\n{text}")
    name = "collective" if options.answers else "collective-simulated"
    for path in written(options.output, name, text, data):
        print(f"written: {path}")
    picture = options.output / f"{name}.svg"
    if plot(picture, dataset.title, found):
        print(f"written: {picture}")
    else:
        print("no picture: matplotlib is not installed (make collective installs it)")
    return int(options.check and not all(goal.holds for goal in reached))


def run(
    dataset: Dataset,
    divided: Sequence[Split],
    method: str,
    *,
    per_repeat: int,
    bus_failover: int | None,
    seed: int = 1,
    wanted: Wanted = DESIGN,
) -> tuple[list[Figure], list[Goal], str, dict[str, object]]:
    """Everything: figures of the first repeat, goals, the tables, the data.

    Args:
        dataset: The questions.
        divided: All splits, one repeat after the other.
        method: How it was done, in words.
        per_repeat: How many splits a repeat has.
        bus_failover: Tasks of failover over the bus; ``None`` leaves the bus out.
        seed: Of failover's chance.
        wanted: What to hold the figures against.
    """
    results = evaluate(dataset, divided, tell=_tell)
    first, shown = divided[:per_repeat], results[:per_repeat]
    bus: BusRun | None = None
    if bus_failover is not None:
        bus = over_the_bus(dataset, first, shown, failover_tasks=bus_failover, tell=_tell)
        shown = _by_bus(shown, bus)
    found = figures(first, shown)
    spread: dict[str, list[float]] = {}
    for start in range(0, len(divided), per_repeat):
        part = slice(start, start + per_repeat)
        for figure in figures(divided[part], results[part]):
            spread.setdefault(figure.key, []).append(figure.gain.mean)
    failures = failover(FAILOVER_TASKS, seed)
    reached = goals(first, shown, found, failures, wanted)
    if bus is not None:
        reached += _goals_of_bus(bus)
    arguments = (dataset.title, method, found, reached, spread, bus)
    return found, reached, markdown(*arguments), document(*arguments, details(shown))


def _prepared(options: argparse.Namespace) -> tuple[Dataset, list[Split], str]:
    if options.learn_from:
        dataset, other = load(options.answers), load(options.learn_from)
        if dataset.models.keys() != other.models.keys():
            raise SystemExit("both folders must have answers of the same models")
        both = {case.id for case in dataset.cases} & {case.id for case in other.cases}
        if both:
            raise SystemExit(f"{len(both)} questions are in both folders: nothing would be proven")
        method = f"Learned from {len(other.cases):,} other questions."
        return dataset, [Split(0, other.cases, dataset.cases)], method
    if options.answers:
        dataset = load(options.answers, options.seed)
    else:
        dataset = simulate(options.questions, options.seed)
    divided = list(
        splits(dataset.cases, folds=options.folds, repeats=options.repeats, seed=options.seed)
    )
    method = (
        f"{options.folds}-fold cross-validation: learned from "
        f"{len(divided[0].train):,} questions, reported on the others."
    )
    return dataset, divided, method


def _by_bus(results: Sequence[SplitResult], bus: BusRun) -> list[SplitResult]:
    """The same with what came over the bus; only the simulated clock is that of the cores."""
    merged = []
    for at, result in enumerate(results):
        outcomes: dict[str, list[Outcome]] = dict(result.outcomes)
        for key, row in bus.rows.items():
            outcomes[key] = [
                structs.replace(got, seconds=core.seconds)
                for got, core in zip(row.outcomes[at], result.outcomes[key], strict=True)
            ]
        merged.append(structs.replace(result, outcomes=outcomes))
    return merged


def _goals_of_bus(bus: BusRun) -> list[Goal]:
    verdicts = sum(row.verdicts for row in bus.rows.values())
    differ = sum(row.differ for row in bus.rows.values())
    failures = bus.failures
    return [
        Goal(
            "agents on the bus decide as the pure cores do",
            "every verdict",
            f"{verdicts:,} verdicts, {bus.member_calls:,} calls of members, {differ} differ; "
            f"{sum(row.missing for row in bus.rows.values())} members lost on the way",
            differ == 0,
        ),
        Goal(
            "failover over the bus, real clock",
            "99.9 % within the deadline, nobody paid without permission",
            f"{failures.served:,} of {failures.tasks:,}, {failures.paid} paid, "
            f"{failures.survived:,} failures survived, p95 {failures.p95:.2f} s",
            failures.served >= 0.999 * failures.tasks and failures.paid == 0,
        ),
    ]


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
