"""Agents: functions and models served as skills on the bus."""

from __future__ import annotations

from dragoman_agents.agent import Agent
from dragoman_agents.context import Context
from dragoman_agents.loading import load_agent
from dragoman_agents.onnx_agent import onnx_agent
from dragoman_agents.serving import serve, serving
from dragoman_agents.wrapping import wrap

__all__ = ["Agent", "Context", "load_agent", "onnx_agent", "serve", "serving", "wrap"]
