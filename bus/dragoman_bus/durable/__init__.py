"""Durable delivery: what callers, workers and the supervisor share of it (spec/durable.md)."""

from dragoman_bus.durable.layout import DurableSettings, make_streams
from dragoman_bus.durable.store import LogStore

__all__ = ["DurableSettings", "LogStore", "make_streams"]
