"""The supervisor: ends what no worker ends, and does what has to happen between tasks.

Spec: spec/durable.md, supervisor.
"""

from dragoman_bus.supervisor.supervisor import Supervisor, supervising

__all__ = ["Supervisor", "supervising"]
