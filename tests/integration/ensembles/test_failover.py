"""The first member that can: cooldown for all, hedging, and no money that nobody allowed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from dragoman_agents import Agent, Context
from dragoman_agents.ensembles.agents import Member, failover, router
from dragoman_agents.ensembles.agents.shared_health import Cooldown
from dragoman_agents.ensembles.agents.store import Store
from dragoman_agents.models.errors import ModelError
from dragoman_bus.protocol.a2a import TaskArtifactUpdateEvent
from dragoman_bus.protocol.contracts import text_of
from dragoman_bus.protocol.errors import RemoteError, TaskFailed
from dragoman_bus.protocol.payloads import Cost, InstanceState
from tests.support.ensemble_stage import Stage, account_of, outcomes_of, report_of

pytestmark = pytest.mark.anyio

OVERLOADED = ModelError("overloaded", "too many requests", retry_after=30.0)


async def test_the_first_one_answers_as_long_as_it_can(play: Stage) -> None:
    await play.member("first", "a", price=1.0)
    await play.member("second", "b", price=1.0)
    await play.serve(failover("steady", skill="guess", members=["first", "second"]))

    result = await play.ask("steady")

    assert result.value == "a"
    account = account_of(result)
    assert account.verdict == "served"
    assert outcomes_of(account) == {"first": "chosen", "second": "unasked"}
    assert play.calls == ["first"]


async def test_another_one_stands_in_and_the_receipt_says_why(play: Stage) -> None:
    await play.member("first", OVERLOADED, price=1.0)
    await play.member("second", "b", price=1.0)
    await play.serve(failover("steady", skill="guess", members=["first", "second"]))

    result = await play.ask("steady")

    assert result.value == "b"
    account = account_of(result)
    assert account.served_by == "second"
    assert "first failed: MODEL_OVERLOADED" in account.reason
    assert report_of(account, "first").code == "MODEL_OVERLOADED"
    assert result.receipt is not None
    assert result.receipt.model.model == "second"  # type: ignore[union-attr]
    # What the failed one used is counted too.
    assert result.usage is not None
    assert result.usage.calls == 2


async def test_a_dead_agent_is_replaced_within_the_deadline(play: Stage) -> None:
    await play.member("second", "b", price=1.0)
    await play.member("first", None, price=1.0)
    await play.serve(failover("steady", skill="guess", members=["first", "gone", "second"]))
    task = asyncio.create_task(play.ask("steady"))
    while not play.calls:
        await asyncio.sleep(0.01)

    await play.kill("first")

    result = await task
    assert result.value == "b"
    account = account_of(result)
    assert report_of(account, "first").code == "AGENT_LOST"
    assert outcomes_of(account)["gone"] == "absent"


async def test_a_cooldown_holds_for_every_ensemble_and_replica(play: Stage) -> None:
    await play.member("first", OVERLOADED, price=1.0)
    await play.member("second", "b", price=1.0)
    await play.serve(failover("steady", skill="guess", members=["first", "second"]))
    other = failover("other", skill="guess", members=["first", "second"])
    await play.serve(other)
    store = await Store.open(play.bus.transport)
    assert store is not None

    await play.ask("steady")
    async with asyncio.timeout(5):
        while await store.read("health.first", Cooldown) is None:
            await asyncio.sleep(0.01)
    play.answers["first"] = "a"
    result = await play.ask("other")

    assert result.value == "b"
    assert "first cools down" in account_of(result).reason
    assert play.calls == ["first", "second", "second"]

    # So it does for one that starts only now.
    await play.serve(failover("late", skill="guess", members=["first", "second"]))
    assert (await play.ask("late")).value == "b"


async def test_the_last_resort_is_asked_though_it_cools_down(play: Stage) -> None:
    await play.member("only", OVERLOADED)
    await play.serve(failover("steady", skill="guess", members=["only"], attempts_per_member=1))
    with pytest.raises(TaskFailed) as caught:
        await play.ask("steady")
    assert caught.value.code == "MODEL_OVERLOADED"
    assert caught.value.retryable
    assert caught.value.retry_after is not None

    play.answers["only"] = "a"
    assert (await play.ask("steady")).value == "a"


async def test_a_callers_own_short_deadline_cools_nobody(play: Stage) -> None:
    await play.member("slow", None)
    await play.serve(failover("steady", skill="guess", members=["slow"]))
    for _ in range(4):
        with pytest.raises(RemoteError):
            await play.ask("steady", deadline=0.3)
    play.answers["slow"] = "a"

    result = await play.ask("steady")

    assert "cools down" not in account_of(result).reason
    store = await Store.open(play.bus.transport)
    assert store is not None
    assert await store.read("health.slow", Cooldown) is None


async def test_one_that_takes_too_long_is_left_for_another(play: Stage) -> None:
    await play.member("slow", None, price=1.0)
    await play.member("quick", "b", price=1.0)
    await play.serve(
        failover("steady", skill="guess", members=["slow", "quick"], attempt_seconds=0.3)
    )
    result = await play.ask("steady")
    assert result.value == "b"
    assert report_of(account_of(result), "slow").code == "MODEL_TIMEOUT"


@pytest.mark.parametrize(
    ("fallback", "who"),
    [("none", None), ("same_price", "cheap"), ("free_only", "free"), ("any", "dear")],
)
async def test_money_is_never_spent_that_nobody_allowed(
    play: Stage, fallback: str, who: str | None
) -> None:
    await play.member("first", OVERLOADED, price=5.0)
    await play.member("dear", "dear", price=50.0)
    await play.member("unknown", "unknown", family="x")
    await play.member("cheap", "cheap", price=1.0)
    await play.member("free", "free", family="rules")
    await play.serve(
        failover(
            "steady",
            skill="guess",
            members=["first", "dear", "unknown", "cheap", Member(agent="free", price=0.0)],
            fallback=fallback,
            attempts_per_member=1,
        )
    )
    if who is None:
        with pytest.raises(TaskFailed) as caught:
            await play.ask("steady")
        assert "not allowed by price" in caught.value.message
        assert play.calls == ["first"]
        return
    result = await play.ask("steady")
    account = account_of(result)
    assert account.served_by == who
    if fallback != "any":
        assert "does not allow" in str(report_of(account, "dear").why)


async def test_who_is_not_there_still_sets_the_price(play: Stage) -> None:
    first = await play.member("first", "a", price=1.0)
    await play.member("dear", "b", price=50.0)
    await play.member("cheap", "c", price=0.5)
    await play.serve(failover("steady", skill="guess", members=["first", "dear", "cheap"]))
    await play.serve(failover("unlucky", skill="guess", members=["never-seen", "dear", "cheap"]))
    assert (await play.ask("steady")).value == "a"
    first.state = InstanceState.DRAINING
    directory = await play.bus.directory()
    async with asyncio.timeout(15):
        await directory.wait_for(lambda views: not all(view.is_ready for view in views))

    result = await play.ask("steady")

    assert result.value == "c"
    assert "first is not there" in account_of(result).reason
    # Of one that nobody has ever seen no price is known, so nothing is the same price.
    with pytest.raises(TaskFailed, match="not allowed by price: dear, cheap"):
        await play.ask("unlucky")


async def test_a_second_one_is_asked_when_the_first_takes_unusually_long(play: Stage) -> None:
    await play.member("first", "a", price=1.0, tokens=10)
    await play.member("second", "b", price=1.0)
    agent = failover("steady", skill="guess", members=["first", "second"], hedge_percentile=0.9)
    await play.serve(agent)
    for _ in range(8):
        assert (await play.ask("steady")).value == "a"
    play.answers["first"] = None

    began = time.monotonic()
    result = await play.ask("steady")

    assert result.value == "b"
    assert time.monotonic() - began < 5
    account = account_of(result)
    assert "takes longer" in account.reason
    assert outcomes_of(account)["first"] == "stopped"
    assert await asyncio.wait_for(play.canceled.get(), 5) == "first"
    # The loser's usage is known and counted.
    assert report_of(account, "first").usage is not None
    assert result.usage is not None
    assert result.usage.calls == 2


async def streams(play: Stage, name: str, pieces: list[str], *, fails: bool = False) -> None:
    agent = Agent(name)

    @agent.skill
    async def guess(text: str, ctx: Context) -> str:
        for piece in pieces:
            await ctx.emit(piece)
        if fails:
            raise RuntimeError("cut off")
        return "".join(pieces)

    await play.serve(agent)


async def test_a_streamed_text_is_passed_on_and_replaced_when_its_member_fails(
    play: Stage,
) -> None:
    await streams(play, "first", ["The ", "half"], fails=True)
    await streams(play, "second", ["The ", "whole ", "text"])
    await play.serve(
        failover(
            "steady",
            skill="guess",
            members=["first", "second"],
            fallback="any",
            attempts_per_member=1,
        )
    )
    task = await play.bus.submit("guess", "what?", agent="steady", deadline=10)
    pieces = []
    async with asyncio.timeout(10):
        async for update in task:
            if isinstance(update, TaskArtifactUpdateEvent):
                pieces.append((text_of(update.artifact.parts), update.append is True))

    assert pieces == [
        ("The ", False),
        ("half", True),
        ("The ", False),
        ("whole ", True),
        ("text", True),
    ]
    assert (await task.result()).text == "The whole text"


async def test_bad_input_is_not_carried_from_one_to_the_next(play: Stage) -> None:
    refusal = ModelError("refused", "no")
    await play.member("first", refusal, price=1.0)
    await play.member("second", "b", price=1.0)
    await play.serve(failover("steady", skill="guess", members=["first", "second"]))
    result = await play.ask("steady")
    assert result.value == "b"
    store = await Store.open(play.bus.transport)
    assert store is not None
    assert await store.read("health.first", Cooldown) is None


async def test_one_that_is_too_dear_for_what_is_left_is_passed_over(play: Stage) -> None:
    await play.member("dear", "a", price=1000.0)
    await play.member("cheap", "b", price=1.0)
    await play.serve(failover("steady", skill="guess", members=["dear", "cheap"]))

    result = await play.ask("steady", max_cost=Cost(amount=0.01, currency="USD"))

    assert result.value == "b"
    account = account_of(result)
    assert "may cost" in str(report_of(account, "dear").why)
    assert outcomes_of(account)["dear"] == "unasked"


async def test_the_budget_binds_whoever_runs(play: Stage) -> None:
    await play.member("first", OVERLOADED, price=1.0, tokens=1000)
    await play.member("second", "b", price=1.0, tokens=1000)
    await play.serve(failover("steady", skill="guess", members=["first", "second"]))
    # Both together cost 0.002 USD; what the first used is gone.
    with pytest.raises(RemoteError) as caught:
        await play.ask("steady", max_cost=Cost(amount=0.0015, currency="USD"))
    assert caught.value.code in ("LIMIT_EXCEEDED", "MODEL_OVERLOADED")
    assert (await play.ask("steady", max_cost=Cost(amount=0.01, currency="USD"))).value == "b"


@pytest.mark.parametrize("make", [failover, router], ids=["failover", "router"])
async def test_a_silent_member_leaves_another_one_time_to_answer(
    play: Stage, make: Callable[..., Agent]
) -> None:
    await play.member("hangs", None, price=1.0)
    await play.member("quick", "b", price=1.0)
    await play.serve(make("steady", skill="guess", members=["hangs", "quick"]))

    for result in await asyncio.gather(*(play.ask("steady", deadline=2.0) for _ in range(4))):
        assert result.value == "b"
        # The caller's deadline made it late, so nobody is blamed.
        assert report_of(account_of(result), "hangs").code == "DEADLINE_EXCEEDED"

    store = await Store.open(play.bus.transport)
    assert store is not None
    assert await store.read("health.hangs", Cooldown) is None


@pytest.mark.parametrize("make", [failover, router], ids=["failover", "router"])
async def test_a_member_that_was_corrected_and_started_anew_is_asked_at_once(
    play: Stage, make: Callable[..., Agent]
) -> None:
    await play.member("first", ModelError("auth", "the key is wrong"), price=1.0)
    await play.member("second", "b", price=1.0)
    for name in ("steady", "other"):
        await play.serve(make(name, skill="guess", members=["first", "second"]))
    assert (await play.ask("steady")).value == "b"
    assert (await play.ask("steady")).value == "b"
    assert play.calls.count("first") == 1
    await play.kill("first")

    await play.member("first", "a", price=1.0)

    for ensemble in ("steady", "other"):
        async with asyncio.timeout(10):
            while (await play.ask(ensemble)).value != "a":
                # Its lease, and the end of the cooldown, are on their way.
                await asyncio.sleep(0.05)


async def test_nothing_is_kept_back_for_a_hedge_that_nobody_is_left_for(play: Stage) -> None:
    await play.member("only", "a", price=1.0, tokens=1000)
    options = {"skill": "guess", "members": ["only"], "expected_output_tokens": 900}
    await play.serve(failover("steady", **options, hedge_percentile=0.9))
    result = await play.ask("steady", max_cost=Cost(amount=0.0011, currency="USD"))
    assert result.value == "a"


async def full_member(play: Stage, name: str, gate: asyncio.Event | None = None) -> None:
    """A member with one slot and no queue."""
    agent = Agent(name, concurrency=1, queue=0)

    @agent.skill
    async def guess(text: str) -> str:
        play.calls.append(name)
        await (asyncio.sleep(0.05) if gate is None else gate.wait())
        return name

    await play.serve(agent)


async def test_members_without_room_are_waited_for_and_blamed_by_nobody(play: Stage) -> None:
    for name in ("one", "two"):
        await full_member(play, name)
    agent = failover("steady", skill="guess", members=["one", "two"], fallback="any")
    await play.serve(agent)

    results = await asyncio.gather(*(play.ask("steady") for _ in range(20)))

    assert {result.value for result in results} == {"one", "two"}
    reports = [[one.agent for one in account_of(result).members] for result in results]
    assert max(len(names) for names in reports) <= 3  # a refusal of each, and the answer
    store = await Store.open(play.bus.transport)
    assert store is not None
    assert [await store.read(f"health.{name}", Cooldown) for name in ("one", "two")] == [None, None]


async def test_when_there_is_no_room_until_the_deadline_that_is_the_error(play: Stage) -> None:
    gate = asyncio.Event()
    await full_member(play, "one", gate)
    await play.serve(failover("steady", skill="guess", members=["one"]))
    taken = asyncio.create_task(play.ask("one"))
    while not play.calls:
        await asyncio.sleep(0.01)

    with pytest.raises(RemoteError) as refused:
        await play.ask("steady", deadline=1.5)

    assert refused.value.code == "OVERLOADED"
    assert refused.value.retryable
    gate.set()
    await taken
    assert play.calls == ["one"]
