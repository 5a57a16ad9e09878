"""Public names exist, are listed in order of the code, and are documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import dragoman_agents
import dragoman_bus
import dragoman_gateways

MAXIMUM_LINES = 400


def modules() -> list[ModuleType]:
    found = []
    for package in (dragoman_bus, dragoman_agents, dragoman_gateways):
        found.append(package)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not info.name.endswith("__main__"):
                found.append(importlib.import_module(info.name))
    return found


ALL = modules()


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.__name__)
def test_a_module_says_its_idea_first_and_stays_small(module: ModuleType) -> None:
    source = inspect.getsource(module)

    assert module.__doc__
    assert module.__doc__.split("\n\n")[0].rstrip().endswith((".", ":", "?"))
    assert source.count("\n") <= MAXIMUM_LINES


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.__name__)
def test_every_listed_name_exists_and_is_documented(module: ModuleType) -> None:
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        is_ours = getattr(value, "__module__", "").startswith("dragoman_")
        if is_ours and (inspect.isclass(value) or inspect.isfunction(value)):
            assert inspect.getdoc(value), f"{module.__name__}.{name}"


@pytest.mark.parametrize(
    "module", [dragoman_bus, dragoman_agents], ids=lambda module: module.__name__
)
def test_a_package_lists_what_people_use(module: ModuleType) -> None:
    assert module.__all__
    assert len(set(module.__all__)) == len(module.__all__)
