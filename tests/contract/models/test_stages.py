"""What the suite leaves out is data with reasons, and none of it is left out unnoticed."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from tests.contract.models.stage import Scenario, Stage
from tests.contract.models.stages import STAGES

SCENARIOS = set(get_args(Scenario))
TESTS = "".join(
    (Path(__file__).parent / name).read_text() for name in ("test_answers.py", "test_failures.py")
)


@pytest.mark.parametrize("kind", STAGES, ids=lambda kind: kind.name)
def test_what_a_stage_leaves_out_has_a_reason(kind: type[Stage]) -> None:
    assert kind.left_out.keys() <= SCENARIOS
    assert all(len(reason) > 10 for reason in kind.left_out.values())


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_every_scenario_is_asked_for_and_played(scenario: str) -> None:
    assert f'"{scenario}"' in TESTS
    assert any(scenario not in kind.left_out for kind in STAGES)
