"""A plain function, served: no framework, no model.

dragoman run examples/frameworks/plain_function.py:agent
"""

from dragoman_agents import wrap


def reverse(text: str) -> str:
    """Turns a text around."""
    return text[::-1]


agent = wrap(reverse)
