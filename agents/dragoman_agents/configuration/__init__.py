"""Configuration: one TOML file, the environment and flags, resolved in one documented place."""

from __future__ import annotations

from dragoman_agents.configuration.complaints import ConfigurationError
from dragoman_agents.configuration.durability import DurableTable
from dragoman_agents.configuration.resolution import (
    DEFAULT_FILE,
    find_file,
    load_configuration,
)
from dragoman_agents.configuration.tables import (
    AgentDeclaration,
    BusSettings,
    Configuration,
    SkillDeclaration,
)

__all__ = [
    "DEFAULT_FILE",
    "AgentDeclaration",
    "BusSettings",
    "Configuration",
    "ConfigurationError",
    "DurableTable",
    "SkillDeclaration",
    "find_file",
    "load_configuration",
]
