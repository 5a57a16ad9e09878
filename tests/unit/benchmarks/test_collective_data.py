"""The questions of the collective benchmark: read, simulated, divided; and how sure figures are."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.collective.cases import Case, splits
from benchmarks.collective.recorded import agent_name, load
from benchmarks.collective.simulated import MODELS, simulate
from benchmarks.collective.statistics import estimate, percentile

PRICES = ["model", "usd_per_million_input_tokens", "usd_per_million_output_tokens"]
COLUMNS = ["question_id", "subject", "answer", "question_tokens"]


def write(folder: Path, prices: list[list[object]], rows: list[dict[str, object]]) -> Path:
    with (folder / "prices.csv").open("w", newline="") as file:
        csv.writer(file).writerows([PRICES, *prices])
    with gzip.open(folder / "answers.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *(name for name in rows[0] if ":" in name)])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def row(number: int, pick: str = "A", **more: object) -> dict[str, object]:
    told = {"question_id": number, "subject": "law", "answer": "A", "question_tokens": 200}
    return {**told, "Big.Model:pick": pick, "Big.Model:output_tokens": 50, **more}


def test_recorded_answers_have_prices_and_agents_names(tmp_path: Path) -> None:
    folder = write(tmp_path, [["Big.Model", 2.0, 4.0], ["unused", 1, 1]], [row(7), row(8, pick="")])

    dataset = load(folder)

    assert list(dataset.models) == ["big-model"] == [agent_name("Big.Model")]
    first, second = dataset.cases
    assert (first.id, first.subject, first.truth, first.input_tokens) == ("7", "law", "A", 200)
    reply = first.replies["big-model"]
    assert (reply.pick, reply.output_tokens) == ("A", 50)
    assert reply.price == pytest.approx((2.0 * 1200 + 4.0 * 50) / 1e6)
    assert reply.seconds > 0
    assert second.replies["big-model"].pick is None
    assert not second.is_right("big-model")


@pytest.mark.parametrize(
    ("prices", "rows", "words"),
    [
        ([["other", 1, 1]], [row(1)], "no price of Big.Model"),
        ([["Big.Model", 1, 1]], [row(1, question_tokens="many")], "row 2"),
    ],
)
def test_a_folder_that_cannot_be_read_is_told_in_words(
    tmp_path: Path, prices: list[list[object]], rows: list[dict[str, object]], words: str
) -> None:
    with pytest.raises(SystemExit, match=words):
        load(write(tmp_path, prices, rows))


def test_a_folder_without_answers_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"answers\.csv\.gz is missing"):
        load(tmp_path)


def test_the_simulator_does_what_recorded_models_did() -> None:
    """Recorded: 69.3 and 74.2, 67 and 81, 72.6, 85.5; each within two points."""
    cases = simulate(10_000, 1).cases
    three, four = ("quick", "open-large", "coder"), ("strong", "quick", "open-large", "coder")

    agree = [case for case in cases if said(case, "quick") == said(case, "coder")]
    rest = [case for case in cases if said(case, "quick") != said(case, "coder")]
    believed = sum(case.is_right("quick") for case in agree)
    cascaded = believed + sum(case.is_right("strong") for case in rest)
    some = sum(any(case.is_right(model) for model in four) for case in cases)

    assert rate(majority(cases, three), cases) == pytest.approx(0.693, abs=0.02)
    assert rate(majority(cases, four), cases) == pytest.approx(0.737, abs=0.02)
    assert len(agree) / len(cases) == pytest.approx(0.66, abs=0.02)
    assert rate(believed, agree) == pytest.approx(0.825, abs=0.02)
    assert rate(cascaded, cases) == pytest.approx(0.726, abs=0.02)
    assert rate(some, cases) == pytest.approx(0.852, abs=0.02)
    for model in MODELS:
        right = sum(case.is_right(model.name) for case in cases)
        assert rate(right, cases) == pytest.approx(model.accuracy, abs=0.015)


def said(case: Case, model: str) -> str | None:
    return case.replies[model].pick


def majority(cases: Sequence[Case], models: tuple[str, ...]) -> int:
    return sum(case.truth == winner(case, models) for case in cases)


def winner(case: Case, models: tuple[str, ...]) -> str | None:
    """What most say; where they are even, what the first of them says."""
    votes = Counter(said(case, model) for model in models)
    return said(case, max(models, key=lambda model: votes[said(case, model)]))


def rate(count: int, cases: Sequence[Case]) -> float:
    return count / len(cases)


def test_a_question_is_as_long_as_it_was() -> None:
    for case in simulate(200, 2).cases:
        document = json.dumps(case.question(), separators=(",", ":"))
        assert len(document) // 4 == case.sent_tokens
        assert case.sent_tokens == max(case.input_tokens, len(case.id) // 4 + 6)
        assert case.question()["text"].split(" ")[0] == case.id


def test_a_simulation_is_the_same_for_the_same_seed() -> None:
    assert simulate(50, 3) == simulate(50, 3)
    assert simulate(50, 3) != simulate(50, 4)


def test_no_question_is_learned_from_and_reported_on_in_one_split() -> None:
    cases = simulate(103, 1).cases
    divided = list(splits(cases, folds=4, repeats=2, seed=5))

    assert [split.number for split in divided] == list(range(8))
    for split in divided:
        train, test = {case.id for case in split.train}, {case.id for case in split.test}
        assert not train & test
        assert len(train | test) == len(cases)
    for repeat in (divided[:4], divided[4:]):
        assert sorted(case.id for split in repeat for case in split.test) == sorted(
            case.id for case in cases
        )
    assert divided[0].test != divided[4].test


def test_repeats_do_not_make_an_interval_narrower_than_the_questions_allow() -> None:
    once = [(0, str(number), float(number % 2)) for number in range(400)]
    twice = [*once, *((1, question, value) for _, question, value in once)]

    one, two = estimate(once), estimate(twice)

    assert one.mean == two.mean == 0.5
    assert one.high - one.mean == pytest.approx(1.96 * 0.5 / 20, rel=0.01)
    assert (two.low, two.high) == pytest.approx((one.low, one.high))
    with pytest.raises(ValueError, match="nothing was measured"):
        estimate([])


def test_the_spread_is_that_of_single_splits() -> None:
    found = estimate([(0, "a", 1.0), (0, "b", 1.0), (1, "c", 0.0), (1, "d", 0.5)])
    assert (found.lowest, found.highest) == (0.25, 1.0)


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.95) == 4.0
    assert percentile([], 0.5) == 0.0
