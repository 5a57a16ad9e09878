"""The example agents do honest work on the shipped texts, and are as small as is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_agents import Agent, load_agent
from dragoman_agents.configuration import load_configuration
from dragoman_agents.declared import build_agent

EXAMPLES = Path(__file__).parents[3] / "examples"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("texts/*.txt")}
PANEL = ("by_words", "by_likeness", "mistaught")
SKILLS = {
    "extract": ["extract"],
    "classify": ["classify"],
    "translate": ["translate"],
    "count": ["count", "report"],
    "echo": ["echo"],
}


def load(name: str) -> Agent:
    return load_agent(f"{EXAMPLES / name}.py:agent")


@pytest.mark.parametrize("name", SKILLS)
def test_every_example_offers_its_skills(name: str) -> None:
    assert list(load(name).skills) == SKILLS[name]


def test_the_configuration_names_the_examples() -> None:
    configuration = load_configuration(EXAMPLES / "dragoman.toml", environment={})

    modules = [
        Path((agent.module or "").removesuffix(":agent")).stem for agent in configuration.agents
    ]
    assert modules == ["extract", "classify", "translate", "count"]


def test_the_texts_are_long_enough_to_be_real() -> None:
    assert len(TEXTS) == 4
    assert all(len(text.split()) > 300 for text in TEXTS.values())


def test_a_letter_is_taken_apart() -> None:
    found = load("extract").skills["extract"].signature.function(TEXTS["harbor-letter"])

    assert {"Mr. Tobias Wren", "Ms. Adela Morrow", "Helena Voss"} <= set(found.names)
    assert {"14 March 2031", "2031-02-19"} <= set(found.dates)
    assert {"480", "1,250.00", "77120"} <= set(found.numbers)
    assert "2031" not in found.numbers
    assert found.emails[0] == "okonski@lanternmutual.example"


@pytest.mark.parametrize(
    ("text", "label"),
    [("harbor-letter", "trade"), ("slow-bread", "cooking"), ("comet-night", "science")],
)
def test_a_text_is_recognized(text: str, label: str) -> None:
    assert load("classify").skills["classify"].signature.function(TEXTS[text]).label == label


def test_words_and_sentences_are_counted() -> None:
    counts = load("count").skills["count"].signature.function("One two. Three (four)! Five-six?", 1)

    assert (counts.words, counts.sentences) == (5, 3)


@pytest.mark.anyio
async def test_a_word_that_the_glossary_lacks_is_marked() -> None:
    pieces = load("translate").skills["translate"].signature.function("Good morning,\nold zebra!")

    assert [piece async for piece in pieces] == ["Bonjour,\n", "Vieux ⟨zebra⟩!"]


def test_the_panel_has_one_member_that_is_wrong() -> None:
    members = [load_agent(f"{EXAMPLES / 'panel.py'}:{name}") for name in PANEL]
    truths = {"slow-bread": "cooking", "comet-night": "science", "harbor-letter": "trade"}
    for text, truth in truths.items():
        said = [member.skills["topic"].signature.function(TEXTS[text]) for member in members]
        assert said[:2] == [truth, truth]
        assert said[2] != truth


def test_the_panel_is_declared() -> None:
    panel = load_configuration(EXAMPLES / "ensemble.toml", environment={}).agents[-1]
    assert panel.ensemble is not None
    assert build_agent(panel).name == "panel"
