"""These tests install packages with pip, which takes minutes: they run when asked for by name."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "separate" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("separate") is not None:
            item.add_marker(pytest.mark.skip(reason="`make separate` runs it"))
