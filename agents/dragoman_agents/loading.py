"""Finds an agent by ``package.module:name``, ``path/to/file.py:name`` or ``path/to/file.onnx``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from dragoman_agents.agent import Agent
from dragoman_agents.onnx_agent import onnx_agent
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["load_agent"]


def load_agent(reference: str) -> Agent:
    """The agent that ``reference`` names; without ``:name`` the module's only agent.

    An ONNX file is an agent by itself (``onnx_agent``).

    Raises:
        NotConfigured: the module or file does not load, or the name is not an agent.
    """
    if reference.endswith(".onnx"):
        return onnx_agent(reference)
    where, _, name = reference.rpartition(":") if ":" in reference else (reference, "", "")
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    if name:
        found = getattr(module, name, None)
        if not isinstance(found, Agent):
            raise NotConfigured(f"{where} has no agent named {name!r}; it has: {_names(module)}")
        return found
    agents = [value for value in vars(module).values() if isinstance(value, Agent)]
    if len(agents) != 1:
        raise NotConfigured(f"say which agent of {where}: {where}:NAME; it has: {_names(module)}")
    return agents[0]


def _names(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Agent)]
    return ", ".join(names) or "no agent at all"


def _load_module(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotConfigured(f"cannot import {name}: {error}") from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotConfigured(f"there is no file {path}")
    # An agent file may import its neighbours, as a script does.
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))
    name = f"dragoman_agent_file_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise NotConfigured(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except ImportError as error:
        raise NotConfigured(f"cannot import {path}: {error}") from error
    return module
