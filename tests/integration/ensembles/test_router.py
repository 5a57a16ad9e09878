"""One member for each task: by price, latency, quality and what it can do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dragoman_agents import Agent, Context
from dragoman_agents.ensembles.agents import Member, consensus, failover, router
from dragoman_agents.models.errors import ModelError
from dragoman_bus.protocol.a2a import Message, Part, Role
from dragoman_bus.protocol.errors import TaskFailed
from dragoman_bus.protocol.payloads import Cost
from tests.support.ensemble_stage import Stage, account_of, report_of

pytestmark = pytest.mark.anyio


async def teach(play: Stage, truth: str, count: int, text: str = "what?") -> None:
    for _ in range(count):
        result = await play.ask("route", text)
        label = {"task_id": result.task_id, "truth": truth}
        await play.ask("route", skill="feedback", text=label)  # type: ignore[arg-type]


async def test_without_labels_the_default_is_relied_on_and_candidates_are_told(
    play: Stage,
) -> None:
    await play.member("small", "a", price=1.0)
    await play.member("large", "a", price=10.0)
    await play.serve(router("route", skill="guess", members=["small", "large"], default="large"))

    result = await play.ask("route")

    account = account_of(result)
    assert account.kind == "router"
    assert account.served_by == "large"
    assert {one.agent for one in account.candidates} == {"small", "large"}  # type: ignore[union-attr]
    assert all(one.why for one in account.candidates)  # type: ignore[union-attr]
    assert play.calls == ["large"]


async def test_what_a_task_needs_rules_members_out(play: Stage) -> None:
    await play.member("plain", "plain", price=1.0)
    await play.member("able", "able", price=10.0, tags=("tools",))
    await play.member("short", "short", price=1.0, tags=("tools",), context_window=10)
    await play.serve(
        router(
            "route",
            skill="guess",
            members=["plain", "short", "able"],
            capabilities=["tools"],
            default="plain",
        )
    )
    result = await play.ask("route")
    account = account_of(result)
    assert result.value == "able"
    whys = {one.agent: one.why for one in account.candidates}  # type: ignore[union-attr]
    assert whys["plain"] == "lacks tools"
    assert "context" in whys["short"]


async def test_when_nobody_can_that_is_said(play: Stage) -> None:
    await play.member("plain", "plain", price=1.0)
    await play.serve(router("route", skill="guess", members=["plain"], capabilities=["image"]))
    with pytest.raises(TaskFailed) as caught:
        await play.ask("route")
    account = caught.value.receipt.ensemble  # type: ignore[union-attr]
    assert account.candidates[0].why == "lacks image"  # type: ignore[union-attr, index]


async def test_money_that_is_left_rules_out_who_is_too_dear(play: Stage) -> None:
    await play.member("small", "small", price=1.0)
    await play.member("large", "large", price=1000.0)
    await play.member("unknown", "unknown", family="x")
    await play.serve(
        router("route", skill="guess", members=["large", "unknown", "small"], default="large")
    )
    limit = Cost(amount=0.01, currency="USD")
    assert (await play.ask("route", max_cost=limit)).value == "small"


async def test_labels_move_tasks_to_who_is_better(play: Stage) -> None:
    await play.member("default", "wrong")
    await play.member("better", "right")
    members = ["default", "better"]
    agent = router("route", skill="guess", members=members, default="default", explore=0.4)
    await play.serve(agent)

    await teach(play, "right", 60)

    reasons = [account_of(await play.ask("route")).reason for _ in range(30)]
    chosen = [reason for reason in reasons if "is tried" not in reason]
    assert chosen
    assert set(chosen) == {"best single member"}
    served = {account_of(await play.ask("route", context_id=f"c{n}")).served_by for n in range(3)}
    assert served == {"better"}


async def test_a_context_stays_with_its_member_on_every_replica(play: Stage) -> None:
    await play.member("one", "one")
    await play.member("two", "two")
    members = [Member(agent="one"), Member(agent="two", canary=0.5)]
    await play.serve(router("route", skill="guess", members=members, default="one"))
    went = {}
    for number in range(12):
        context = f"context-{number}"
        went[context] = (await play.ask("route", context_id=context)).value
    assert set(went.values()) == {"one", "two"}

    await play.serve(router("route", skill="guess", members=members, default="one"))
    for context, member in went.items():
        for _ in range(2):
            assert (await play.ask("route", context_id=context)).value == member


async def test_the_next_best_stands_in_when_the_chosen_one_fails(play: Stage) -> None:
    await play.member("one", ModelError("overloaded", "busy", retry_after=30.0), price=1.0)
    await play.member("two", "two", price=1.0)
    await play.serve(router("route", skill="guess", members=["one", "two"], default="one"))

    result = await play.ask("route")

    assert result.value == "two"
    assert "one failed: MODEL_OVERLOADED" in account_of(result).reason


@pytest.mark.parametrize("make", [router, consensus, failover])
async def test_pictures_go_to_members_that_say_they_take_them(
    play: Stage, make: Callable[..., Agent]
) -> None:
    for name, modes in (("reader", []), ("viewer", ["image/*"])):
        agent = Agent(name)

        @agent.skill(input_modes=modes)
        async def guess(text: str, ctx: Context) -> str:
            play.calls.append(ctx.agent)
            return f"{ctx.agent} saw {len(ctx.message.parts)} parts"

        await play.serve(agent)
    options = {} if make is consensus else {"fallback": "any"}
    await play.serve(make("either", skill="guess", members=["reader", "viewer"], **options))
    picture = Part(raw="aGVsbG8=", media_type="image/png")
    message = Message(message_id="m", role=Role.USER, parts=[Part(text="What?"), picture])

    result = await play.bus.ask("guess", message, agent="either", deadline=10.0)

    assert result.value == "viewer saw 2 parts"
    assert report_of(account_of(result), "reader").why == "it does not take image/png"
    assert play.calls == ["viewer"]
    # Its own card says what its members take, so that it can be one of another ensemble.
    (view,) = await play.bus.discover(agent="either")
    (card,) = [one for one in view.announce.card.skills if one.id == "guess"]
    assert card.input_modes == ["text/plain", "application/json", "image/*"]
    # Where nobody says so, all may be asked: they may read the message by themselves.
    sound = Part(raw="aGVsbG8=", media_type="audio/wav")
    message = Message(message_id="n", role=Role.USER, parts=[Part(text="What?"), sound])
    assert (await play.bus.ask("guess", message, agent="either", deadline=10.0)).value
