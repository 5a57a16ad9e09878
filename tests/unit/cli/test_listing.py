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
    assert words in shown([view], width=160)


def shown(views: list[AgentView], *, width: int) -> str:
    console = Console(width=width)
    with console.capture() as output:
        console.print(agent_table(views, width=width))
    return output.get()


def test_names_are_whole_on_a_narrow_terminal() -> None:
    agent = Agent("an-agent-with-a-name-that-is-longer-than-its-column")

    @agent.skill(id="a_skill_with_a_name_that_is_longer_than_its_column")
    async def work(text: str) -> str:
        return text

    view = AgentView(announce=agent.announcement(), digest="sha256:" + "0" * 64, instances=[])
    text = shown([view], width=80)

    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    columns = [
        text.splitlines()[0].index(name) for name in ("AGENT", "INSTANCES", "SKILLS", "STATE")
    ]
    names = "".join(line[columns[0] : columns[1]].strip() for line in text.splitlines()[1:])
    skills = "".join(line[columns[2] : columns[3]].strip() for line in text.splitlines()[1:])
    assert (names, skills) == (view.name, view.skills[0])
    assert "CARD" in shown([view], width=160)
