"""Any Python agent on the bus: ``wrap`` serves what another framework made, or a function.

A framework is imported only where an object of it is wrapped: it is recognised by the name of its
package. No type of a framework leaves this package.
"""

from __future__ import annotations

from dragoman_agents.wrapping.wrapper import wrap

__all__ = ["wrap"]
