"""Whatever is killed, paused or cut off: every accepted task ends once, and nothing is lost."""

from __future__ import annotations

import pytest

from tests.chaos.run import Settings, run

pytestmark = pytest.mark.anyio


async def test_nothing_is_lost_and_nothing_ends_twice_under_three_hundred_faults() -> None:
    outcome = await run(Settings(seed=7, faults=300, tasks=1500, gap=0.2))
    assert outcome.report.violations == []
    assert outcome.report.tasks >= 1500
    # A bus that only let deadlines pass would keep every promise, too.
    assert outcome.report.ends["COMPLETED"] >= 0.75 * outcome.report.tasks


@pytest.mark.containers
async def test_a_cluster_of_three_keeps_every_promise_while_its_nodes_die() -> None:
    outcome = await run(Settings(seed=11, faults=60, tasks=300, gap=0.6, nodes=3))
    assert outcome.report.violations == []
    assert outcome.report.ends["COMPLETED"] >= 0.75 * outcome.report.tasks
