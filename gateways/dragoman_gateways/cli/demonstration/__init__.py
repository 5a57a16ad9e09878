"""``dragoman demo``: the whole bus in a minute, on real texts, with every message checked."""

from __future__ import annotations

from dragoman_gateways.cli.demonstration.play import demonstrate

__all__ = ["demonstrate"]
