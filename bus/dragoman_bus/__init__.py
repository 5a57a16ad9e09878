"""The bus: the Dragoman protocol, its transports, and the client that speaks it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dragoman_bus.client import Bus, Result, TaskHandle, connect
    from dragoman_bus.protocol.errors import DragomanError, LocalError, RemoteError
    from dragoman_bus.protocol.traces import TraceContext
    from dragoman_bus.registry import AgentView
    from dragoman_bus.tracing import traced

__all__ = [
    "AgentView",
    "Bus",
    "DragomanError",
    "LocalError",
    "RemoteError",
    "Result",
    "TaskHandle",
    "TraceContext",
    "connect",
    "traced",
]

# Loaded on first use: whoever imports only the protocol core pays for nothing else.
_HOMES = {
    "AgentView": "dragoman_bus.registry",
    "Bus": "dragoman_bus.client",
    "DragomanError": "dragoman_bus.protocol.errors",
    "LocalError": "dragoman_bus.protocol.errors",
    "RemoteError": "dragoman_bus.protocol.errors",
    "Result": "dragoman_bus.client",
    "TaskHandle": "dragoman_bus.client",
    "TraceContext": "dragoman_bus.protocol.traces",
    "connect": "dragoman_bus.client",
    "traced": "dragoman_bus.tracing",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'dragoman_bus' has no attribute {name!r}")
