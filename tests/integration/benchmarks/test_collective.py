"""The collective benchmark in small: simulated models, the pure cores, and a real bus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.collective.__main__ import options_of, run
from benchmarks.collective.cases import splits
from benchmarks.collective.experiments import failover
from benchmarks.collective.figures import SIMULATION
from benchmarks.collective.report import written
from benchmarks.collective.simulated import MODELS, simulate

SEVEN = MODELS[:7]
DETERMINISTIC = {
    "early-stop quorum: same verdict as the full vote",
    "one always-wrong member of five, 200 labels",
    "failover: one provider down, one at 20 % errors",
    "routing at any number of labels",
}


def test_agents_on_a_real_bus_decide_as_the_pure_cores_do(tmp_path: Path) -> None:
    dataset = simulate(600, 7, SEVEN)
    divided = list(splits(dataset.cases, folds=6, repeats=1, seed=7))[:1]

    found, goals, text, data = run(
        dataset, divided, "In small.", per_repeat=1, bus_failover=40, wanted=SIMULATION
    )

    bus = data["bus"]
    assert isinstance(bus, dict)
    undisturbed = {key: row for key, row in bus["rows"].items() if not row["errors"]}
    # A machine that stands still for seconds loses members; what is left must agree to the letter.
    assert len(undisturbed) >= 10, {key: row["errors"] for key, row in bus["rows"].items()}
    for key, row in undisturbed.items():
        assert (key, row["verdicts"], row["differ_from_pure_cores"]) == (key, 100, 0)
        assert row["price_beside_pure_cores"] == pytest.approx(1.0, abs=0.02)
    assert bus["failover"]["paid"] == 0
    assert bus["failover"]["served"] == 40
    assert {goal.name for goal in goals if goal.holds} >= DETERMINISTIC
    by_key = {figure.key: figure for figure in found}
    assert by_key["pool"].price < by_key["pool_full"].price
    assert by_key["oracle_all"].accuracy.mean > by_key["single"].accuracy.mean
    for path in written(tmp_path, "small", text, data):
        assert path.stat().st_size > 1000
    assert json.loads((tmp_path / "small.json").read_text())["rows"][0]["key"] == "single"
    assert "| best single model |" in text


def test_no_failure_of_providers_reaches_the_caller_and_nobody_is_paid_silently() -> None:
    for seed in (1, 2, 3):
        failures = failover(5000, seed)
        assert failures.served >= 0.999 * failures.tasks
        assert failures.paid == 0
        assert failures.failures > 1000


def test_options_that_cannot_be_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--learn-from", "somewhere"], ["--folds", "1"], ["--questions", "10"]):
        with pytest.raises(SystemExit) as ended:
            options_of(arguments)
        assert ended.value.code == 2
    assert "--learn-from needs --answers" in capsys.readouterr().err
