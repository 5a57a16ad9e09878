"""Declaring agents: names, signatures and schemas, and clear words when they cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from dragoman_agents import Agent, Context, load_agent
from dragoman_bus.protocol.errors import InvalidInput, NotConfigured, RemoteError


def agent() -> Agent:
    return Agent("tester", description="for tests")


def test_schemas_come_from_the_signature() -> None:
    made = agent()

    @made.skill(tags=["text"])
    async def shorten(text: str, words: Annotated[int, msgspec.Meta(ge=1)] = 3) -> str:
        """Shorten a text.

        More words.
        """
        return text

    skill = made.skills["shorten"]
    assert skill.contract.input_schema["required"] == ["text"]
    assert skill.contract.input_schema["properties"]["words"]["minimum"] == 1
    assert skill.contract.output_schema == {"type": "string"}
    assert skill.contract.text_input == "text"
    assert (skill.card.description, skill.card.tags) == ("Shorten a text.", ["text"])


def test_the_annotation_of_the_context_need_not_exist_at_run_time() -> None:
    made = agent()

    @made.skill
    async def look(text: str, *, ctx: Context) -> str:
        return text

    assert "ctx" not in made.skills["look"].contract.input_schema["properties"]


def test_two_required_parameters_have_no_place_for_plain_text() -> None:
    made = agent()

    @made.skill
    def join(first: str, second: str) -> str:
        return first + second

    assert made.skills["join"].contract.text_input is msgspec.UNSET


@pytest.mark.parametrize("name", ["Tester", "a b", "", "x" * 64, "a.b"])
def test_names_that_are_not_tokens_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(NotConfigured, match="lower-case"):
        Agent(name)


def test_signatures_without_a_schema_are_refused() -> None:
    made = agent()

    with pytest.raises(NotConfigured, match=r"\*args"):

        @made.skill
        def anything(*args: str) -> str:
            return ""

    with pytest.raises(NotConfigured, match="JSON"):

        @made.skill
        def lock(value: type[Exception]) -> str:
            return ""


def test_a_stream_that_is_not_asynchronous_is_refused_with_what_to_write() -> None:
    with pytest.raises(NotConfigured, match="async def pieces"):

        @agent().skill
        def pieces(text: str) -> Iterator[str]:
            yield text


def test_a_context_under_another_name_is_refused_with_what_to_write() -> None:
    with pytest.raises(NotConfigured, match="ctx: Context"):

        @agent().skill
        async def tell(text: str, context: Context) -> str:
            return text


@pytest.mark.parametrize("option", ["tags", "examples", "input_modes"])
def test_one_text_in_place_of_a_list_is_refused_and_not_taken_letter_by_letter(option: str) -> None:
    with pytest.raises(NotConfigured, match=rf"{option}=\['text/plain'\]"):

        @agent().skill(**{option: "text/plain"})
        async def tell(text: str) -> str:
            return text


def test_types_that_cannot_be_found_are_named() -> None:
    class Hidden:
        pass

    made = agent()
    with pytest.raises(NotConfigured, match="Hidden"):

        @made.skill
        def use(value: Hidden) -> str:
            return ""


def test_two_skills_cannot_have_one_name() -> None:
    made = agent()
    made.add_skill("same", lambda: "", input_schema={"type": "object"})

    with pytest.raises(NotConfigured, match="two skills"):
        made.add_skill("same", lambda: "", input_schema={"type": "object"})


def test_an_agent_without_skills_cannot_be_announced() -> None:
    with pytest.raises(NotConfigured, match="no skill"):
        agent().announcement()


def test_given_schemas_judge_input_and_output() -> None:
    made = agent()
    made.add_skill(
        "double",
        lambda input, ctx: input["n"] * 2,
        input_schema={"type": "object", "required": ["n"]},
        output_schema={"type": "integer"},
    )
    signature = made.skills["double"].signature

    assert signature.decode(msgspec.Raw(b'{"n":2}')) == {"input": {"n": 2}}
    with pytest.raises(InvalidInput, match="n"):
        signature.decode(msgspec.Raw(b"{}"))
    with pytest.raises(RemoteError, match="contract"):
        signature.check_output("four")


def test_an_agent_is_loaded_from_a_file_by_name_or_as_the_only_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from dragoman_agents import Agent\nagent = Agent('mine')\nnumber = 1\n")

    assert load_agent(f"{path}:agent").name == "mine"
    assert load_agent(str(path)).name == "mine"
    with pytest.raises(NotConfigured, match="it has: agent"):
        load_agent(f"{path}:number")
    with pytest.raises(NotConfigured, match="no file"):
        load_agent(str(tmp_path / "absent.py"))
    with pytest.raises(NotConfigured, match="cannot import"):
        load_agent("no_such_module_anywhere:agent")


@pytest.mark.anyio
async def test_stop_hooks_run_last_one_first_and_one_that_fails_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Agent("clerk")
    order = []

    @agent.on_stop
    def first() -> None:
        order.append("first")

    @agent.on_stop
    async def second() -> None:
        order.append("second")
        raise OSError("gone")

    async with agent.open():
        assert order == []
    assert order == ["second", "first"]
    assert "a stop hook failed" in caplog.text


@pytest.mark.parametrize(
    ("said", "member"),
    [
        ({"description": 5}, "card.description"),
        ({"description": "half \ud83d a character"}, "surrogates"),
        ({"description": "long " * 20_000}, "card.description"),
        ({"version": 1}, "card.version"),
        ({"extensions": ["https://example.com/an-extension"]}, "extensions"),
    ],
)
def test_an_agent_that_nobody_would_see_is_refused_with_the_member(
    said: dict[str, Any], member: str
) -> None:
    made = Agent("tester", **({"description": "for tests"} | said))
    made.add_skill("tell", lambda: "x")
    with pytest.raises(NotConfigured, match=f"what agent tester says of itself .*{member}"):
        made.announcement()


@pytest.mark.parametrize("option", [{"tags": [1]}, {"examples": [{"text": "x"}]}])
def test_a_skill_that_nobody_would_see_is_refused_with_the_member(option: dict[str, Any]) -> None:
    made = agent()
    made.add_skill("tell", lambda: "x", **option)
    with pytest.raises(NotConfigured, match=rf"card\.skills\[.*\]\.{next(iter(option))}"):
        made.announcement()


@pytest.mark.parametrize("bound", [{"concurrency": 2.5}, {"concurrency": "4"}, {"queue": 0.5}])
def test_slots_and_places_are_whole_numbers(bound: dict[str, Any]) -> None:
    with pytest.raises(NotConfigured, match="whole number"):
        Agent("tester", **bound)
