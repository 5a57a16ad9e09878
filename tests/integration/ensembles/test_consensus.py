"""Members vote on the bus: one publish, early stop, dissent told, limits shared out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dragoman_agents import Agent, Context
from dragoman_agents.configuration import load_configuration
from dragoman_agents.declared import build_agent
from dragoman_agents.ensembles.agents import Member, consensus
from dragoman_agents.ensembles.weighting import JointWeights, posterior
from dragoman_bus.client import Result
from dragoman_bus.protocol.errors import InvalidInput, NotConfigured, RemoteError, TaskFailed
from dragoman_bus.protocol.payloads import Cost, InstanceState
from dragoman_bus.protocol.subjects import ask_subject
from dragoman_bus.transports.port import Delivery
from tests.support.ensemble_stage import Stage, account_of, outcomes_of, report_of

pytestmark = pytest.mark.anyio


async def test_the_majority_wins_with_one_publish_and_the_dissent_is_told(play: Stage) -> None:
    await play.member("one", "spam", price=1.0)
    await play.member("two", "spam", price=2.0)
    await play.member("three", "ham", family="llama")
    await play.serve(consensus("vote", skill="guess", members=["one", "two", "three"], quorum=3))
    await play.serve(
        consensus("plain", skill="guess", members=["three", "one", "two"], stop_early=False)
    )
    requests: list[Delivery] = []
    tap = await play.make()
    await tap.subscribe(ask_subject("guess"), requests.append)
    await tap.flush()

    result = await play.ask("plain")

    assert result.value == "spam"
    assert len(requests) == 1
    account = account_of(result)
    assert account.kind == "consensus"
    assert account.verdict == "agreed"
    assert account.served_by in ("one", "two")
    assert sorted(outcomes_of(account).values()) == ["agreed", "chosen", "dissented"]
    dissent = report_of(account, "three")
    assert msgspec.json.decode(dissent.answer) == "ham"  # type: ignore[arg-type]
    assert dissent.model.model == "three"  # type: ignore[union-attr]
    assert result.receipt is not None
    assert result.receipt.candidates == ["three", "one", "two"]
    assert result.receipt.model.model == account.served_by  # type: ignore[union-attr]


async def test_it_has_the_contract_of_its_members(play: Stage) -> None:
    await play.member("one", "a")
    await play.serve(consensus("vote", skill="guess", members=["one"]))

    directory = await play.bus.directory()
    async with asyncio.timeout(5):
        views = await directory.wait_for(lambda views: len(views) == 2)

    contracts = {view.name: view.contract("guess") for view in views}
    assert contracts["vote"].digest == contracts["one"].digest  # type: ignore[union-attr]
    tags = next(view for view in views if view.name == "vote").announce.card.skills[0].tags
    assert "ensemble" in tags


async def test_members_with_fitting_contracts_are_asked_and_others_are_not(play: Stage) -> None:
    closed = {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
        "additionalProperties": False,
    }
    picky = {**closed, "properties": {"text": {"type": "string", "maxLength": 3}}}
    await play.member("one", "a")
    for name, schema, output in (
        ("closed", closed, {"type": "string"}),
        ("picky", picky, {"type": "string"}),
        ("counts", closed, {"type": "integer"}),
    ):
        agent = Agent(name)

        async def guess(input: Any, ctx: Context) -> str:
            return "a"

        agent.add_skill(
            "guess", guess, input_schema=schema, output_schema=output, text_input="text"
        )
        await play.serve(agent)
    await play.serve(
        consensus("vote", skill="guess", members=["one", "closed", "picky", "counts"], quorum=2)
    )

    account = account_of(await play.ask("vote"))

    outcomes = outcomes_of(account)
    assert {outcomes["one"], outcomes["closed"]} == {"chosen", "agreed"}
    assert outcomes["picky"] == outcomes["counts"] == "absent"
    assert "does not fit" in str(report_of(account, "picky").why)


async def test_an_ensemble_waits_for_a_member_to_learn_its_contract(play: Stage) -> None:
    serving = asyncio.create_task(play.serve(consensus("vote", skill="guess", members=["late"])))
    directory = await play.bus.directory()
    assert directory.find(agent="vote") == []

    await play.member("late", "here")
    async with asyncio.timeout(5):
        await serving

    assert (await play.ask("vote")).value == "here"


async def test_it_stops_as_soon_as_nothing_can_change_and_sums_the_usage_of_losers(
    play: Stage,
) -> None:
    await play.member("one", "a", price=1.0, tokens=100)
    await play.member("two", "a", price=1.0, tokens=100)
    await play.member("slow", None, price=1.0, tokens=40)
    await play.serve(consensus("vote", skill="guess", members=["one", "two", "slow"]))

    result = await play.ask("vote")

    assert await asyncio.wait_for(play.canceled.get(), 5) == "slow"
    account = account_of(result)
    assert outcomes_of(account)["slow"] == "stopped"
    assert report_of(account, "slow").usage.input_tokens == 20  # type: ignore[union-attr]
    assert result.usage is not None
    assert result.usage.input_tokens == 120
    assert result.usage.calls == 3
    assert result.usage.cost == Cost(amount=pytest.approx(0.00024), currency="USD")


async def test_missing_and_failing_members_are_told_and_do_not_stop_the_vote(play: Stage) -> None:
    await play.member("one", "a")
    await play.member("broken", RuntimeError("no"))
    await play.serve(consensus("vote", skill="guess", members=["broken", "one", "gone"]))

    result = await play.ask("vote")

    assert result.value == "a"
    account = account_of(result)
    assert outcomes_of(account) == {"one": "chosen", "broken": "failed", "gone": "absent"}
    assert report_of(account, "broken").code == "SKILL_FAILED"


async def test_it_abstains_with_an_error_that_shows_the_votes(play: Stage) -> None:
    await play.member("one", "a")
    await play.member("two", "b")
    await play.serve(consensus("vote", skill="guess", members=["one", "two"], quorum=2))

    with pytest.raises(TaskFailed) as caught:
        await play.ask("vote")

    assert caught.value.code == "ABSTAINED"
    assert not caught.value.retryable
    assert caught.value.receipt is not None
    account = caught.value.receipt.ensemble
    assert account.verdict == "abstained"  # type: ignore[union-attr]
    assert outcomes_of(account) == {"one": "dissented", "two": "dissented"}  # type: ignore[arg-type]


async def test_a_late_member_does_not_take_the_others_down_with_it(play: Stage) -> None:
    await play.member("one", "a")
    await play.member("hangs", None)
    await play.serve(consensus("vote", skill="guess", members=["hangs", "one"], wait_seconds=0.3))
    result = await play.ask("vote")
    assert result.value == "a"
    assert outcomes_of(account_of(result))["hangs"] == "absent"

    # Without a wait of its own, the task's deadline decides, and the answer still comes in time.
    await play.serve(consensus("plain", skill="guess", members=["hangs", "one"]))
    assert (await play.ask("plain", deadline=1.0)).value == "a"


async def test_when_no_member_answers_that_is_the_error(play: Stage) -> None:
    await play.member("one", RuntimeError("no"))
    await play.serve(consensus("vote", skill="guess", members=["one"]))

    with pytest.raises(TaskFailed, match="no member answered") as caught:
        await play.ask("vote")

    assert caught.value.code == "SKILL_FAILED"
    account = caught.value.receipt.ensemble  # type: ignore[union-attr]
    assert outcomes_of(account) == {"one": "failed"}  # type: ignore[arg-type]


async def test_when_no_member_is_there_any_more_that_is_said(play: Stage) -> None:
    one = await play.member("one", "a")
    await play.serve(consensus("vote", skill="guess", members=["one"]))
    directory = await play.bus.directory()
    one.state = InstanceState.DRAINING
    async with asyncio.timeout(15):
        await directory.wait_for(lambda views: not all(view.is_ready for view in views))

    with pytest.raises(TaskFailed, match="it is leaving") as caught:
        await play.ask("vote")

    assert caught.value.code == "AGENT_UNAVAILABLE"
    assert caught.value.retryable


async def test_a_long_answer_is_cut_in_the_account(play: Stage) -> None:
    await play.member("one", "a")
    await play.member("long", "b" * 5000)
    agent = consensus("vote", skill="guess", members=["one", "long"], stop_early=False)
    await play.serve(agent)

    report = report_of(account_of(await play.ask("vote")), "long")

    assert report.answer_cut is True
    assert msgspec.json.decode(report.answer) == "b" * 1024  # type: ignore[arg-type]


async def test_members_are_found_by_skill_and_ensembles_are_left_out(play: Stage) -> None:
    await play.member("one", "a")
    await play.member("two", "a")
    await play.serve(consensus("vote", skill="guess", quorum=2))
    await play.serve(consensus("other", skill="guess", quorum=2))

    result = await play.ask("vote")

    assert set(outcomes_of(account_of(result))) == {"one", "two"}
    assert sorted(play.calls) == ["one", "two"]


async def test_members_are_found_by_model_family(play: Stage) -> None:
    await play.member("gpt-a", "a", family="gpt")
    await play.member("gpt-b", "a", family="gpt")
    await play.member("llama-a", "a", family="llama")
    await play.serve(consensus("vote", skill="guess", families=["gpt", "llama", "claude"]))

    account = account_of(await play.ask("vote"))

    asked = {member.agent for member in account.members if member.outcome != "absent"}
    assert len(asked & {"gpt-a", "gpt-b"}) == 1
    assert "llama-a" in asked
    assert outcomes_of(account)["claude"] == "absent"


async def test_a_missing_family_may_have_the_name_of_an_agent(play: Stage) -> None:
    await play.member("gpt", "a", family="llama")
    await play.serve(consensus("vote", skill="guess", families=["llama", "gpt"]))
    assert (await play.ask("vote")).value == "a"


async def test_ensembles_nest_and_never_call_themselves(play: Stage) -> None:
    await play.member("one", "a")
    await play.member("two", "b")
    await play.serve(consensus("inner", skill="guess", members=["two"]))
    await play.serve(consensus("outer", skill="guess", members=["one", "inner", "outer-loop"]))
    await play.serve(consensus("outer-loop", skill="guess", members=["outer"]))

    result = await play.ask("outer", deadline=5.0)

    # ``outer-loop`` has only ``outer``, which is above it: it has nobody to ask.
    assert result.value == "a"
    assert outcomes_of(account_of(result))["outer-loop"] == "failed"
    assert play.calls.count("one") == 1


async def test_money_is_shared_out_and_nobody_of_unknown_price_is_asked(play: Stage) -> None:
    await play.member("cheap", "a", price=1.0)
    await play.member("dear", "b", price=1000.0)
    await play.member("unknown", "b", family="x")
    await play.serve(consensus("vote", skill="guess", members=["cheap", "dear", "unknown"]))

    result = await play.ask("vote", max_cost=Cost(amount=0.01, currency="USD"))

    assert play.calls == ["cheap"]
    account = account_of(result)
    assert "price is unknown" in str(report_of(account, "unknown").why)
    assert "may cost" in str(report_of(account, "dear").why)

    await play.serve(
        consensus(
            "trusting",
            skill="guess",
            members=[Member(agent="unknown", price=0.0), "cheap"],
        )
    )
    await play.ask("trusting", max_cost=Cost(amount=0.01, currency="USD"))
    assert sorted(play.calls) == ["cheap", "cheap", "unknown"]


async def test_a_label_by_task_id_takes_the_weight_of_who_is_always_wrong(play: Stage) -> None:
    await play.member("right", "yes")
    await play.member("wrong", "no")
    await play.member("liar", "no")
    members = ["right", "wrong", "liar"]
    first = consensus("vote", skill="guess", members=members, quorum=1)
    second = consensus("vote", skill="guess", members=members, quorum=1)
    await play.serve(first)

    for _ in range(12):
        result = await play.ask("vote")
        task = {"task_id": result.task_id, "truth": "yes"}
        taught = await play.ask("vote", skill="feedback", text=task)  # type: ignore[arg-type]

    assert taught.value["right"]["right"] is True
    assert taught.value["weights"]["wrong"] == 0
    assert (await play.ask("vote")).value == "yes"

    # Another replica knows it too.
    await play.serve(second)
    for _ in range(4):
        assert (await play.ask("vote")).value == "yes"


async def test_who_counts_nothing_is_not_paid_for(play: Stage) -> None:
    for name, answer in (("right", "yes"), ("wrong", "no"), ("good", "yes")):
        await play.member(name, answer)
    members = ["right", "wrong", "good"]
    agent = consensus("vote", skill="guess", members=members, stop_early=False, explore=0.0)
    await play.serve(agent)
    for _ in range(12):
        result = await play.ask("vote")
        task = {"task_id": result.task_id, "truth": "yes"}
        await play.ask("vote", skill="feedback", text=task)  # type: ignore[arg-type]
    play.calls.clear()

    account = account_of(await play.ask("vote"))

    assert sorted(play.calls) == ["good", "right"]
    assert outcomes_of(account)["wrong"] == "unasked"


async def test_as_few_members_as_may_suffice_are_asked_cheapest_first(play: Stage) -> None:
    await play.member("dear", "a", price=9.0)
    await play.member("cheap", "a", price=1.0)
    await play.member("cheaper", "a", price=0.5)
    await play.serve(
        consensus("vote", skill="guess", members=["dear", "cheap", "cheaper"], ask="as_needed")
    )

    account = account_of(await play.ask("vote"))

    assert sorted(play.calls) == ["cheap", "cheaper"]
    assert outcomes_of(account)["dear"] == "unasked"

    play.answers["cheap"] = "b"
    assert (await play.ask("vote")).value == "a"
    assert play.calls.count("dear") == 1


async def test_nobody_is_asked_where_even_the_agreement_of_all_would_not_be_enough(
    play: Stage,
) -> None:
    for name in ("one", "two"):
        await play.member(name, "a")
    weights = JointWeights(overall={"one": 1.0, "two": 0.5}, choices=4)
    options = {"weights": weights, "ask": "as_needed", "minimum_confidence": 0.9}
    await play.serve(consensus("vote", skill="guess", members=["one", "two"], **options))

    with pytest.raises(TaskFailed, match="would not be enough") as failed:
        await play.ask("vote")

    assert failed.value.code == "ABSTAINED"
    assert play.calls == []


async def test_weights_that_were_learned_elsewhere_count_by_subject(play: Stage) -> None:
    for name, said in [("jurist", "a"), ("chemist", "b"), ("liar", "b")]:
        await play.serve(_specialist(play, name, said))
    weights = JointWeights(
        overall={"jurist": 1.0, "chemist": 1.0, "liar": 0.0},
        subjects={"law": {"jurist": 1.0}, "chemistry": {"chemist": 1.0}},
        choices=4,
    )
    members = ["jurist", "chemist", "liar"]
    vote = consensus(
        "vote",
        skill="guess",
        members=members,
        weights=weights,
        subject="subject",
        ask="as_needed",
        order=["chemist", "jurist"],
        explore=0.0,
    )
    await play.serve(vote)

    law = await play.bus.ask("guess", {"text": "?", "subject": "law"}, agent="vote", deadline=10)
    assert law.value == "a"
    account = account_of(law)
    assert account.calibrated is True
    assert account.confidence == pytest.approx(posterior([2.0, 1.0], 4), abs=1e-6)
    assert sorted(play.calls) == ["chemist", "jurist"]
    assert outcomes_of(account)["liar"] == "unasked"

    play.calls.clear()
    about = {"text": "?", "subject": "chemistry"}
    assert (await play.bus.ask("guess", about, agent="vote", deadline=10)).value == "b"
    assert play.calls == ["chemist"]


def _specialist(play: Stage, name: str, said: str) -> Agent:
    agent = Agent(name)

    async def guess(text: str, subject: str) -> str:
        """Says the same to everything."""
        play.calls.append(name)
        return said

    agent.add_skill("guess", guess)
    return agent


async def test_confidence_is_learned_from_labels(play: Stage) -> None:
    await play.member("good", lambda text: text[-1])
    await play.member("poor", lambda text: text[0])
    await play.serve(
        consensus(
            "vote",
            skill="guess",
            members=["good", "poor"],
            stop_early=False,
            explore=1.0,
            choices=2,
        )
    )
    assert account_of(await play.ask("vote", "aa")).calibrated is False
    for number in range(60):
        question = "ba" if number % 3 else "bb"
        result = await play.ask("vote", question)
        truth = question[-1] if number % 5 else "b"
        task = {"task_id": result.task_id, "truth": truth}
        await play.ask("vote", skill="feedback", text=task)  # type: ignore[arg-type]

    account = account_of(await play.ask("vote", "ba"))

    assert account.calibrated is True
    assert account.served_by == "good"
    assert 0.6 < account.confidence < 1  # type: ignore[operator]


async def test_it_may_offer_its_skill_under_another_name(play: Stage) -> None:
    await play.member("one", "a")
    await play.serve(consensus("vote", skill="guess", offers="sure-guess", members=["one"]))

    result = await play.bus.ask("sure-guess", "what?", deadline=10)

    assert result.value == "a"
    assert account_of(result).served_by == "one"


async def test_a_task_is_judged_once_and_a_wrong_label_leaves_it_to_be_judged(
    play: Stage,
) -> None:
    await play.member("one", "a")
    await play.serve(consensus("vote", skill="guess", members=["one"]))
    task_id = (await play.ask("vote")).task_id

    with pytest.raises(RemoteError, match="give truth"):
        await play.ask("vote", skill="feedback", text={"task_id": task_id})  # type: ignore[arg-type]
    strange = {"task_id": task_id, "truth": {"label": "a"}}
    with pytest.raises(RemoteError, match="write it as they do"):
        await play.ask("vote", skill="feedback", text=strange)  # type: ignore[arg-type]
    label = {"task_id": task_id, "right": True}
    several = await asyncio.gather(
        *(play.ask("vote", skill="feedback", text=label) for _ in range(3)),  # type: ignore[arg-type]
        return_exceptions=True,
    )

    taught = [one for one in several if isinstance(one, Result)]
    assert len(taught) == 1
    assert taught[0].value["labels"] == 1
    with pytest.raises(RemoteError, match="no task's id"):
        await play.ask("vote", skill="feedback", text={**label, "task_id": "a.b"})  # type: ignore[arg-type]


async def test_a_label_for_an_unknown_task_is_refused(play: Stage) -> None:
    await play.member("one", "a")
    await play.serve(consensus("vote", skill="guess", members=["one"]))
    with pytest.raises(RemoteError, match="keeps no answers") as caught:
        await play.ask("vote", skill="feedback", text={"task_id": "none", "truth": "a"})  # type: ignore[arg-type]
    assert caught.value.code == "INVALID_INPUT"


async def test_without_labels_the_others_teach_who_is_the_odd_one_out(play: Stage) -> None:
    for name in ("one", "two", "three"):
        await play.member(name, "a")
    await play.member("odd", "b")
    members = ["odd", "one", "two", "three"]
    agent = consensus(
        "vote", skill="guess", members=members, stop_early=False, learn="consensus", explore=1.0
    )
    await play.serve(agent)

    for _ in range(30):
        await play.ask("vote")
    account = account_of(await play.ask("vote"))

    assert report_of(account, "odd").weight == 0
    assert report_of(account, "one").weight > 0  # type: ignore[operator]


async def test_a_judge_may_say_that_two_answers_mean_the_same(play: Stage) -> None:
    await play.member("one", "Paris")
    await play.member("two", "The capital is Paris")
    await play.member("three", "Lyon")
    judge = Agent("judge")

    @judge.skill
    def same(first: str, second: str) -> bool:
        return "Paris" in first and "Paris" in second

    await play.serve(judge)
    await play.serve(
        consensus(
            "vote",
            skill="guess",
            members=["three", "one", "two"],
            agreement={"by": "judge", "skill": "same"},
        )
    )
    result = await play.ask("vote")
    assert result.value in ("Paris", "The capital is Paris")
    assert outcomes_of(account_of(result))["three"] == "dissented"


async def test_it_is_declared_in_a_file(play: Stage, tmp_path: Path) -> None:
    await play.member("one", "Spam!")
    await play.member("two", "spam")
    await play.member("three", "ham")
    file = tmp_path / "dragoman.toml"
    file.write_text(
        """
        [[agents]]
        name = "vote"
        description = "Three classifiers vote"
        [agents.ensemble]
        kind = "consensus"
        skill = "guess"
        members = ["one", "two", { agent = "three", weight = 0.5 }]
        quorum = 2
        agreement = "normalized"
        """
    )
    await play.serve(build_agent(load_configuration(file, environment={}).agents[0]))

    result = await play.ask("vote")

    assert result.text in ("Spam!", "spam")
    assert outcomes_of(account_of(result))["three"] in ("dissented", "stopped")


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(NotConfigured, match="quorumm"):
        consensus("vote", skill="guess", members=["a"], quorumm=2)
    with pytest.raises(NotConfigured, match="only 1 members"):
        consensus("vote", skill="guess", members=["a"], quorum=2)


async def test_input_that_does_not_fit_is_refused_before_any_member_is_asked(play: Stage) -> None:
    await play.member("one", "a")
    await play.serve(consensus("vote", skill="guess", members=["one"]))
    with pytest.raises((InvalidInput, RemoteError)) as caught:
        await play.ask("vote", text={"number": 1})  # type: ignore[arg-type]
    assert caught.value.code == "INVALID_INPUT"
    assert play.calls == []


async def test_canceling_the_ensemble_cancels_its_members(play: Stage) -> None:
    await play.member("one", None)
    await play.member("two", None)
    await play.serve(consensus("vote", skill="guess", members=["one", "two"]))
    task = await play.bus.submit("guess", "what?", agent="vote")
    while len(play.calls) < 2:
        await asyncio.sleep(0.01)

    await asyncio.wait_for(task.cancel(), 10)

    stopped = {await asyncio.wait_for(play.canceled.get(), 10) for _ in range(2)}
    assert stopped == {"one", "two"}


async def test_what_absent_members_would_have_said_counts_against_confidence(play: Stage) -> None:
    """One voice of three is not certain of itself, be the others late, failed or missing."""
    await play.member("one", "a")
    await play.member("hangs", None)
    await play.member("broken", RuntimeError("no"))
    for others in (["hangs", "broken"], ["hangs", "gone"], ["gone", "never-seen"]):
        members = ["one", *others]
        name = "-".join(others)
        options = {"skill": "guess", "members": members, "wait_seconds": 0.3}
        await play.serve(consensus(name, **options))
        account = account_of(await play.ask(name))
        assert account.confidence == pytest.approx(1 / 3, abs=1e-6)
        assert account.reason.startswith("1 of 3 agree")

        await play.serve(consensus(f"strict-{name}", **options, minimum_confidence=0.6))
        with pytest.raises(TaskFailed) as caught:
            await play.ask(f"strict-{name}")
        assert caught.value.code in ("ABSTAINED", "AGENT_UNAVAILABLE")


async def test_nobody_is_paid_when_too_few_members_are_there_for_a_quorum(play: Stage) -> None:
    await play.member("one", "a", price=1.0)
    members = ["one", "gone", "never-seen"]
    await play.serve(consensus("vote", skill="guess", members=members, quorum=2))

    with pytest.raises(TaskFailed, match="would not be enough: gone") as caught:
        await play.ask("vote")

    assert caught.value.code == "AGENT_UNAVAILABLE"
    assert caught.value.retryable
    assert play.calls == []


async def test_a_late_member_leaves_the_judge_of_agreement_its_time(play: Stage) -> None:
    await play.member("one", "four")
    await play.member("two", "4")
    await play.member("hangs", None)
    judge = Agent("judge")

    @judge.skill
    def same(first: str, second: str) -> bool:
        return {first, second} == {"four", "4"}

    await play.serve(judge)
    agreement = {"by": "judge", "skill": "same"}
    members = ["one", "two", "hangs"]
    agent = consensus("vote", skill="guess", members=members, quorum=2, agreement=agreement)
    await play.serve(agent)

    result = await play.ask("vote", deadline=2.0)

    outcomes = outcomes_of(account_of(result))
    assert outcomes == {"one": "chosen", "two": "agreed", "hangs": "absent", "judge": "used"}


async def test_members_without_a_free_slot_are_waited_for(play: Stage) -> None:
    for name in ("one", "two"):
        agent = Agent(name, concurrency=1, queue=0)

        @agent.skill
        async def guess(text: str, ctx: Context) -> str:
            play.calls.append(ctx.agent)
            await asyncio.sleep(0.02)
            return "a"

        await play.serve(agent)
    await play.serve(consensus("vote", skill="guess", members=["one", "two"], quorum=2))

    results = await asyncio.gather(*(play.ask("vote") for _ in range(10)))

    assert [result.value for result in results] == ["a"] * 10
    assert sorted(play.calls) == ["one"] * 10 + ["two"] * 10
