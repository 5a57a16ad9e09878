"""The ten-line agent: `dragoman run examples/echo.py:agent`, then `dragoman ask echo hello`."""

from dragoman_agents import Agent

agent = Agent("parrot", description="Says what it hears")


@agent.skill
async def echo(text: str) -> str:
    """Returns the text as it is."""
    return text
