"""Opens each stage once per test, unless its table leaves the scenario out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.models.stage import Stage
from tests.contract.models.stages import STAGES


@pytest.fixture(params=STAGES, ids=lambda stage: stage.name)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """The stage that the test's ``scenario`` marker fits; leaves others out with their reason."""
    kind: type[Stage] = request.param
    for marker in request.node.iter_markers("scenario"):
        for scenario in marker.args:
            if scenario in kind.left_out:
                pytest.skip(kind.left_out[scenario])
    async with kind() as opened:
        yield opened
