"""Opens each stage once per test; what a stage's table leaves out is not collected for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.models.stage import Stage
from tests.contract.models.stages import STAGES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop the cases that their stage cannot play; the reasons are data (``Stage.left_out``)."""
    items[:] = [item for item in items if not _is_left_out(item)]


def _is_left_out(item: pytest.Item) -> bool:
    kind = _stage_of(item)
    return kind is not None and any(scenario in kind.left_out for scenario in scenarios_of(item))


def _stage_of(item: pytest.Item) -> type[Stage] | None:
    callspec = getattr(item, "callspec", None)
    found = None if callspec is None else callspec.params.get("stage")
    return found if isinstance(found, type) and issubclass(found, Stage) else None


def scenarios_of(item: pytest.Item) -> set[str]:
    """What a test needs its stage to play."""
    return {scenario for marker in item.iter_markers("scenario") for scenario in marker.args}


@pytest.fixture(params=STAGES, ids=lambda stage: stage.name)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Every stage that can play what the test's ``scenario`` marker asks for."""
    kind: type[Stage] = request.param
    async with kind() as opened:
        yield opened
