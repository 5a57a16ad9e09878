"""Answers that are checked, compared, and put together from pieces."""

from __future__ import annotations

import asyncio

import pytest

from dragoman_agents import Agent, Context
from dragoman_agents.ensembles.agents import cross_check, judge, map_reduce
from dragoman_bus.protocol.errors import TaskFailed
from dragoman_bus.protocol.payloads import Cost
from tests.support.ensemble_stage import Stage, account_of, outcomes_of, report_of

pytestmark = pytest.mark.anyio


async def checker(play: Stage, name: str, wanted: str) -> None:
    agent = Agent(name)

    @agent.skill
    def review(question: str, answer: str, criteria: str) -> dict[str, bool | str]:
        play.calls.append(name)
        return {"ok": wanted in answer, "why": f"it says nothing of {wanted} ({criteria})"}

    await play.serve(agent)


async def test_an_accepted_answer_is_given(play: Stage) -> None:
    await play.member("writer", "bread and butter")
    await checker(play, "strict", "bread")
    await checker(play, "stricter", "butter")
    await play.serve(cross_check("sure", skill="guess", members=["writer"], check="review"))

    result = await play.ask("sure")

    account = account_of(result)
    assert result.value == "bread and butter"
    assert account.verdict == "accepted"
    assert account.reason == "2 of 2 checkers accept"
    assert outcomes_of(account) == {"writer": "chosen", "strict": "agreed", "stricter": "agreed"}


async def test_a_refused_answer_is_repaired_with_the_objections(play: Stage) -> None:
    await play.member("writer", "bread")
    await checker(play, "strict", "butter")
    mender = Agent("mender")

    @mender.skill
    def mend(question: str, answer: str, objections: str) -> str:
        assert "butter (- It names a fat.)" in objections
        return f"{answer} and butter"

    await play.serve(mender)
    await play.serve(
        cross_check(
            "sure",
            skill="guess",
            members=["writer"],
            check="review",
            criteria=["It names a fat."],
            repair="mend",
        )
    )
    result = await play.ask("sure")

    account = account_of(result)
    assert result.value == "bread and butter"
    assert account.served_by == "mender"
    assert report_of(account, "writer").outcome == "dissented"
    assert "answer number 2" in account.reason


async def test_the_next_member_tries_when_nobody_repairs_and_then_it_abstains(
    play: Stage,
) -> None:
    await play.member("poor", "bread")
    await play.member("good", "bread and butter")
    await checker(play, "strict", "butter")
    await play.serve(cross_check("sure", skill="guess", members=["poor", "good"], check="review"))
    result = await play.ask("sure")
    assert result.value == "bread and butter"
    assert account_of(result).served_by == "good"

    play.answers["good"] = "jam"
    with pytest.raises(TaskFailed) as caught:
        await play.ask("sure")
    assert caught.value.code == "ABSTAINED"
    assert "0 of 1 checkers accept; strict objects" in caught.value.message


async def test_nobody_checks_its_own_answer_and_without_checkers_there_is_doubt(
    play: Stage,
) -> None:
    agent = Agent("both")

    @agent.skill
    def guess(text: str) -> str:
        return "me"

    @agent.skill
    def review(question: str, answer: str, criteria: str) -> bool:
        return True

    await play.serve(agent)
    await play.serve(
        cross_check("sure", skill="guess", members=["both"], check="review", repairs=0)
    )
    with pytest.raises(TaskFailed, match="nobody was there to check"):
        await play.ask("sure")
    await play.serve(
        cross_check(
            "bold", skill="guess", members=["both"], check="review", repairs=0, on_doubt="answer"
        )
    )
    result = await play.ask("bold")
    assert account_of(result).verdict == "doubtful"


async def comparer(play: Stage, name: str, *, biased: bool = False) -> None:
    agent = Agent(name)

    @agent.skill
    def compare(question: str, first: str, second: str, criteria: str) -> str:
        play.calls.append(name)
        if biased or len(first) == len(second):
            return "first"
        return "first" if len(first) > len(second) else "second"

    await play.serve(agent)


async def test_the_answer_that_judges_prefer_is_given(play: Stage) -> None:
    await play.member("short", "a")
    await play.member("long", "aaa")
    await play.member("same", "aaa")
    await comparer(play, "fair")
    await comparer(play, "biased", biased=True)
    await play.serve(
        judge("best", skill="guess", members=["short", "long", "same"], compare="compare")
    )
    result = await play.ask("best")

    account = account_of(result)
    assert result.value == "aaa"
    assert account.verdict == "accepted"
    assert outcomes_of(account)["short"] == "dissented"
    assert outcomes_of(account)["same"] == "agreed"
    assert "100% turned" in str(report_of(account, "biased").why)
    assert "0% turned" in str(report_of(account, "fair").why)
    # Equal answers are one candidate: one pair, in both orders, for each judge.
    assert play.calls.count("fair") == 2
    assert [one.agent for one in account.candidates] == ["long", "short"]  # type: ignore[union-attr]


async def test_where_all_say_the_same_no_judge_is_paid(play: Stage) -> None:
    await play.member("one", "a")
    await play.member("two", "a")
    await comparer(play, "fair")
    await play.serve(judge("best", skill="guess", members=["one", "two"], compare="compare"))
    assert account_of(await play.ask("best")).verdict == "agreed"
    assert "fair" not in play.calls


async def test_without_a_judge_the_first_answer_is_doubtful(play: Stage) -> None:
    await play.member("one", "a")
    await play.member("two", "b")
    await play.serve(judge("best", skill="guess", members=["one", "two"], compare="compare"))
    result = await play.ask("best")
    assert result.value == "a"
    assert account_of(result).verdict == "doubtful"


async def test_a_long_text_is_done_in_pieces_side_by_side_and_joined(play: Stage) -> None:
    await play.member("one", lambda text: text.upper(), price=1.0)
    await play.member("two", lambda text: text.upper(), price=1.0)
    binder = Agent("binder")

    @binder.skill
    def bind(parts: list[str]) -> str:
        return "|".join(part.strip() for part in parts)

    await play.serve(binder)
    await play.serve(
        map_reduce("long", skill="guess", members=["one", "two"], size=12, combine="bind", fan_in=3)
    )
    text = "one two. three four. five six. seven eight. nine ten."

    result = await play.ask("long", text)

    assert result.value.replace("|", " ").split() == text.upper().split()
    account = account_of(result)
    assert {one.agent for one in account.members} == {"one", "two", "binder"}
    assert play.calls.count("one") + play.calls.count("two") == int(account.reason.split()[0])
    assert result.usage is not None
    assert result.usage.calls == len(play.calls)


async def test_a_piece_is_done_by_another_member_when_one_fails(play: Stage) -> None:
    await play.member("bad", RuntimeError("no"))
    await play.member("good", lambda text: text[:3])
    await play.serve(map_reduce("long", skill="guess", members=["bad", "good"], size=8))
    result = await play.ask("long", "aaa bbb. ccc ddd. eee fff.")
    assert result.value.startswith("aaa")

    play.answers["good"] = RuntimeError("no")
    with pytest.raises(TaskFailed, match="a piece could not be done") as caught:
        await play.ask("long", "aaa bbb. ccc ddd. eee fff.")
    assert caught.value.code == "SKILL_FAILED"


async def test_canceling_stops_the_pieces_that_are_at_work(play: Stage) -> None:
    gate = asyncio.Event()
    await play.member("one", "never", after=gate)
    await play.serve(map_reduce("long", skill="guess", members=["one"], size=4, at_once=2))
    task = await play.bus.submit("guess", "aaa bbb ccc ddd", agent="long")
    while len(play.calls) < 2:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(task.cancel(), 10)
    assert {await asyncio.wait_for(play.canceled.get(), 5) for _ in range(2)} == {"one"}
    assert len(play.calls) == 2


async def test_helpers_are_bound_by_the_money_that_is_left(play: Stage) -> None:
    await play.member("writer", "bread", price=1.0)
    await checker(play, "strict", "bread")
    await play.serve(
        cross_check("sure", skill="guess", members=["writer"], check="review", repairs=0)
    )
    # The checker's price is unknown, so under a limit it is not asked.
    with pytest.raises(TaskFailed, match="nobody was there to check"):
        await play.ask("sure", max_cost=Cost(amount=1.0, currency="USD"))
    assert "strict" not in play.calls


async def test_an_accepted_answer_waits_for_no_further_checker(play: Stage) -> None:
    await play.member("writer", "bread")
    await checker(play, "strict", "bread")
    silent = Agent("silent")

    @silent.skill
    async def review(question: str, answer: str, criteria: str) -> bool:
        await asyncio.Event().wait()
        return True

    await play.serve(silent)
    options = {"skill": "guess", "members": ["writer"], "check": "review", "approvals": 1}
    await play.serve(cross_check("sure", **options, checkers=["silent", "strict"]))

    account = account_of(await play.ask("sure", deadline=60.0))

    assert account.verdict == "accepted"
    assert outcomes_of(account) == {"writer": "chosen", "strict": "agreed", "silent": "stopped"}


async def test_a_silent_writer_leaves_another_one_and_the_checkers_time(play: Stage) -> None:
    await play.member("hangs", None)
    await play.member("writer", "bread")
    await checker(play, "strict", "bread")
    await play.serve(
        cross_check("sure", skill="guess", members=["hangs", "writer"], check="review")
    )
    account = account_of(await play.ask("sure", deadline=3.0))
    assert account.served_by == "writer"


async def test_a_silent_candidate_leaves_the_judges_their_time(play: Stage) -> None:
    for name, answer in (("one", "a"), ("two", "b"), ("hangs", None)):
        await play.member(name, answer)
    referee = Agent("referee")

    @referee.skill
    def compare(question: str, first: str, second: str, criteria: str) -> str:
        return "first" if first == "b" else "second"

    await play.serve(referee)
    members = ["one", "two", "hangs"]
    await play.serve(judge("best", skill="guess", members=members, compare="compare"))
    account = account_of(await play.ask("best", deadline=3.0))
    assert (account.verdict, account.served_by) == ("accepted", "two")


async def test_a_silent_member_leaves_its_piece_to_another_one(play: Stage) -> None:
    await play.member("hangs", None)
    await play.member("quick", "done")
    await play.serve(map_reduce("long", skill="guess", members=["hangs", "quick"]))
    assert (await play.ask("long", deadline=2.0)).value == "done"


async def test_money_is_shared_among_pieces_and_reckoned_by_their_length(play: Stage) -> None:
    await play.member("only", "done", price=1.0, tokens=600)
    options = {"skill": "guess", "members": ["only"], "size": 2000, "expected_output_tokens": 90}
    await play.serve(map_reduce("long", **options, combine="join", unknown_price="allow"))
    # A single piece may use all of it, not an eighth, which would be too little.
    limit = Cost(amount=0.0007, currency="USD")
    assert (await play.ask("long", max_cost=limit)).value == "done"

    join = Agent("joiner")

    @join.skill(id="join")
    def combined(parts: list[str]) -> str:
        return "+".join(parts)

    await play.serve(join)
    # By the length of the whole text, no call would be within its part of the limit.
    pieces = "\n\n".join(["x" * 1990] * 20)
    limit = Cost(amount=20 * 0.0006 * 1.5, currency="USD")
    result = await play.ask("long", pieces, max_cost=limit)
    assert str(result.value).count("done") == 20


async def test_every_comparison_gets_the_same_part_of_what_is_left(play: Stage) -> None:
    for name in ("one", "two", "three"):
        await play.member(name, name, price=1.0, tokens=100)
    granted: list[float] = []
    referee = Agent("referee")

    @referee.skill
    def compare(question: str, first: str, second: str, criteria: str, ctx: Context) -> str:
        assert ctx.remaining_cost is not None
        granted.append(ctx.remaining_cost.amount)
        return "first" if first < second else "second"

    await play.serve(referee)
    options = {"skill": "guess", "members": ["one", "two", "three"], "compare": "compare"}
    await play.serve(
        judge("best", **options, judges=[{"agent": "referee", "price": 0.0}], unknown_price="allow")
    )

    await play.ask("best", max_cost=Cost(amount=0.01, currency="USD"))

    assert len(granted) == 6
    assert min(granted) > 0.99 * max(granted)
