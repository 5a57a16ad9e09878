"""The agent's side of the bus: an instance that takes tasks and streams their answers."""

from __future__ import annotations

from dragoman_bus.service.instance import Instance, InstanceLimits
from dragoman_bus.service.job import Job, Outcome
from dragoman_bus.service.serving import Serving
from dragoman_bus.service.worker import Worker

__all__ = ["Instance", "InstanceLimits", "Job", "Outcome", "Serving", "Worker"]
