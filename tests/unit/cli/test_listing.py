"""The table of `dragoman ls` says of models what is true."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.console import Console

from dragoman_agents import Agent
from dragoman_bus.protocol.payloads import ModelFacts
from dragoman_bus.registry.view import AgentView
from dragoman_gateways.cli.listing import agent_table

WISE = ModelFacts(provider="acme", family="wise", model="wise-1")


def view_of(models: Sequence[ModelFacts] = (), tags: Sequence[str] = ()) -> AgentView:
    agent = Agent("thinker", models=models)

    @agent.skill(tags=tags)
    async def think(text: str) -> str:
        """Thinks."""
        return text

    return AgentView(announce=agent.announcement(), digest="sha256:" + "0" * 64, instances=[])


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (view_of(), "no language model"),
        (view_of(tags=["ensemble", "consensus"]), "those of its members"),
        (view_of([ModelFacts(provider="acme", family="wise", model="wise-1")]), "wise-1"),
        (
            view_of([ModelFacts(provider="acme", family="wise", model="wise-1")], ["ensemble"]),
            "wise-1",
        ),
    ],
)
def test_models_are_the_agents_own_or_those_of_its_members_or_none(
    view: AgentView, words: str
) -> None:
    console = Console(width=160)
    with console.capture() as shown:
        console.print(agent_table([view]))
    assert words in shown.get()
