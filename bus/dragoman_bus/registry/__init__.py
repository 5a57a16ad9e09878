"""Who is on the bus: leases and cards in a key-value bucket, kept by agents and read by callers."""

from __future__ import annotations

from dragoman_bus.registry.directory import Directory, DirectoryChange
from dragoman_bus.registry.entries import prune
from dragoman_bus.registry.keeper import LeaseKeeper
from dragoman_bus.registry.view import AgentView

__all__ = ["AgentView", "Directory", "DirectoryChange", "LeaseKeeper", "prune"]
