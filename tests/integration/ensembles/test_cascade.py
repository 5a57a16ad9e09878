"""The cheapest first; the next stage only when the answer is doubtful."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dragoman_agents import Agent, Context
from dragoman_agents.ensembles.agents import cascade
from dragoman_agents.ensembles.escalation import Escalation, Scorer
from dragoman_agents.models.errors import ModelError
from dragoman_bus.protocol.errors import TaskFailed
from tests.support.ensemble_stage import Stage, account_of, outcomes_of

pytestmark = pytest.mark.anyio

STAGES = [{"members": ["small", "tiny"]}, {"members": ["large"]}]


async def test_agreement_of_the_cheap_ones_is_enough(play: Stage) -> None:
    await play.member("small", "a", price=1.0)
    await play.member("tiny", "a", price=0.5)
    await play.member("large", "b", price=10.0)
    await play.serve(cascade("careful", skill="guess", stages=STAGES))

    result = await play.ask("careful")

    assert result.value == "a"
    account = account_of(result)
    assert account.verdict == "accepted"
    assert outcomes_of(account)["large"] == "unasked"
    assert sorted(play.calls) == ["small", "tiny"]


async def test_disagreement_asks_the_next_stage_and_dissent_is_told(play: Stage) -> None:
    await play.member("small", "a", price=1.0)
    await play.member("tiny", "b", price=0.5)
    await play.member("large", "b", price=10.0)
    await play.serve(cascade("careful", skill="guess", stages=STAGES))

    result = await play.ask("careful")

    assert result.value == "b"
    account = account_of(result)
    assert account.served_by == "large"
    assert outcomes_of(account) == {"small": "dissented", "tiny": "agreed", "large": "chosen"}
    assert "disagreement" in account.reason
    assert result.usage is not None
    assert result.usage.calls == 3


async def test_without_stages_members_are_asked_by_price(play: Stage) -> None:
    await play.member("large", "l", price=10.0)
    await play.member("small", "s", price=1.0)
    await play.member("unknown", "u", family="x")
    await play.serve(cascade("careful", skill="guess", members=["unknown", "large", "small"]))
    assert (await play.ask("careful")).value == "s"

    play.answers["small"] = RuntimeError("no")
    assert (await play.ask("careful")).value == "l"
    assert play.calls == ["small", "small", "large"]


async def test_a_check_that_refuses_escalates(play: Stage) -> None:
    await play.member("small", "nonsense", price=1.0)
    await play.member("large", "good sense", price=10.0)
    checker = Agent("checker")

    @checker.skill
    def review(question: str, answer: str) -> bool:
        return question == "what?" and answer.startswith("good")

    await play.serve(checker)
    await play.serve(cascade("careful", skill="guess", members=["small", "large"], check="review"))
    result = await play.ask("careful")
    assert result.value == "good sense"
    account = account_of(result)
    assert "failed check" in account.reason
    assert [one.role for one in account.members].count("check") == 2


async def test_low_confidence_and_a_broken_schema_escalate(play: Stage) -> None:
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string"}, "sure": {"type": "number"}},
        "required": ["label", "sure"],
    }
    for name, answer in (
        ("broken", {"label": 1}),
        ("unsure", {"label": "a", "sure": 0.4}),
        ("sure", {"label": "b", "sure": 0.9}),
    ):
        agent = Agent(name)

        async def guess(input: Any, ctx: Context, said: Any = answer) -> Any:
            return said

        agent.add_skill(
            "guess",
            guess,
            input_schema={"type": "object", "properties": {"text": {"type": "string"}}},
            output_schema=schema,
            text_input="text",
        )
        await play.serve(agent)
    await play.serve(
        cascade(
            "careful",
            skill="guess",
            stages=[{"members": [name]} for name in ("broken", "unsure", "sure")],
            confidence="sure",
            minimum_confidence=0.7,
            agreement={"by": "field", "path": "label"},
        )
    )
    account = account_of(await play.ask("careful"))
    assert account.served_by == "sure"
    assert "stage 1 was in doubt (failed schema)" in account.reason
    assert "stage 2 was in doubt (low confidence)" in account.reason
    assert outcomes_of(account) == {"broken": "failed", "unsure": "dissented", "sure": "chosen"}


async def test_when_the_last_stage_is_in_doubt_it_abstains_if_it_is_told_to(play: Stage) -> None:
    await play.member("small", "a", price=1.0)
    await play.member("tiny", "b", price=1.0)
    members = [{"members": ["small", "tiny"]}]
    await play.serve(cascade("careful", skill="guess", stages=members, on_doubt="abstain"))
    with pytest.raises(TaskFailed) as caught:
        await play.ask("careful")
    assert caught.value.code == "ABSTAINED"

    await play.serve(cascade("bold", skill="guess", stages=members))
    result = await play.ask("bold")
    assert account_of(result).verdict == "doubtful"


async def test_a_missing_member_makes_its_stage_doubtful(play: Stage) -> None:
    await play.member("small", "a", price=1.0)
    await play.member("large", "b", price=10.0)
    await play.serve(cascade("careful", skill="guess", stages=STAGES))
    result = await play.ask("careful")
    assert result.value == "b"
    assert outcomes_of(account_of(result))["tiny"] == "absent"


async def test_what_was_learned_may_go_on_though_the_cheap_ones_agree(play: Stage) -> None:
    await play.member("small", "a", price=1.0)
    await play.member("tiny", "a", price=0.5)
    await play.member("large", "b", price=10.0)
    low, high = Scorer(weights={"always": -2.0}), Scorer(weights={"always": 2.0})
    learned = Escalation(stay={"small": low, "tiny": low}, go=high, least_gain=0.1)
    await play.serve(cascade("careful", skill="guess", stages=STAGES, escalations=[learned]))
    result = await play.ask("careful")
    assert result.value == "b"
    assert "better expected" in account_of(result).reason


async def test_who_was_stopped_in_one_stage_is_asked_in_the_next(play: Stage) -> None:
    await play.member("broken", RuntimeError("no"))
    await play.member("slow", None)
    stages = [{"members": ["broken", "slow"]}, {"members": ["slow"]}]
    await play.serve(cascade("careful", skill="guess", stages=stages))
    asked = asyncio.create_task(play.ask("careful"))
    async with asyncio.timeout(5):
        assert await play.canceled.get() == "slow"
    play.answers["slow"] = "a"
    assert (await asked).value == "a"


async def test_a_silent_stage_leaves_the_next_one_time_to_answer(play: Stage) -> None:
    await play.member("hangs", None)
    await play.member("large", "b")
    stages = [{"members": ["hangs"]}, {"members": ["large"]}]
    await play.serve(cascade("careful", skill="guess", stages=stages))
    result = await play.ask("careful", deadline=2.0)
    assert result.value == "b"
    assert "stage 1 was in doubt (no answer)" in account_of(result).reason

    await play.serve(cascade("brisk", skill="guess", stages=stages, stage_seconds=0.2))
    assert (await play.ask("brisk", deadline=60.0)).value == "b"


async def test_who_was_stopped_is_asked_again_when_nobody_else_answers(play: Stage) -> None:
    await play.member("broken", RuntimeError("no"))
    await play.member("slow", None)
    await play.member("large", ModelError("auth", "the key is wrong"))
    stages = [{"members": ["broken", "slow"]}, {"members": ["large"]}]
    await play.serve(cascade("careful", skill="guess", stages=stages))
    asked = asyncio.create_task(play.ask("careful"))
    async with asyncio.timeout(5):
        assert await play.canceled.get() == "slow"
    play.answers["slow"] = "a"

    result = await asked

    assert result.value == "a"
    assert account_of(result).verdict == "doubtful"


async def test_the_error_is_that_of_the_members_not_of_who_was_stopped(play: Stage) -> None:
    await play.member("broken", ModelError("auth", "the key is wrong"))
    await play.member("slow", None)
    await play.serve(cascade("careful", skill="guess", stages=[{"members": ["broken", "slow"]}]))
    asked = asyncio.create_task(play.ask("careful"))
    async with asyncio.timeout(5):
        assert await play.canceled.get() == "slow"
    play.answers["slow"] = ModelError("auth", "the key is wrong")
    with pytest.raises(TaskFailed, match="the key is wrong") as failed:
        await asked
    assert failed.value.code == "MODEL_AUTH"
