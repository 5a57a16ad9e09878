"""Cascades: cheapest first, and on for a reason."""

from __future__ import annotations

import pytest

from dragoman_agents.ensembles.agreement import NormalizedText
from dragoman_agents.ensembles.cascade import Answer, Cascade, Stage, cheapest_first, choose_pair
from dragoman_agents.ensembles.escalation import Escalation, Scorer
from tests.support.simulated_members import questions, skill_for

PAIR = Stage(members=("flash", "coder"))
TOP = Stage(members=("pro",))


def test_two_that_agree_are_believed_and_the_dear_one_is_not_asked() -> None:
    cascade = Cascade([PAIR, TOP], NormalizedText())
    assert cascade.to_ask == ("flash", "coder")
    cascade.answer("flash", Answer(value="Paris"))
    assert not cascade.settled
    cascade.answer("coder", Answer(value="paris."))

    result = cascade.advance()

    assert result is not None
    assert (result.value, result.by, result.stage, result.accepted) == ("Paris", "flash", 0, True)
    assert cascade.to_ask == ()


def test_disagreement_goes_on_to_the_next_stage_whose_word_is_the_last() -> None:
    cascade = Cascade([PAIR, TOP])
    cascade.answer("flash", Answer(value="a", model="f-1"))
    cascade.answer("coder", Answer(value="b"))
    assert cascade.advance() is None
    assert cascade.to_ask == ("pro",)
    cascade.answer("pro", Answer(value="b"))

    result = cascade.advance()

    assert result is not None
    assert (result.value, result.by, result.doubts) == ("b", "pro", ("disagreement",))
    assert [(one.member, one.model) for one in result.dissent] == [("flash", "f-1")]


@pytest.mark.parametrize(
    ("answer", "doubt"),
    [
        (Answer(value="x", confidence=0.4), "low_confidence"),
        (Answer(value="x", fits=False), "failed_schema"),
        (Answer(value="x", passed=False), "failed_check"),
        (None, "no_answer"),
    ],
)
def test_it_escalates_for_each_kind_of_doubt(answer: Answer | None, doubt: str) -> None:
    cascade = Cascade([Stage(members=("small",), minimum_confidence=0.7), TOP])
    if answer is None:
        cascade.absent("small", "MODEL_OVERLOADED")
    else:
        cascade.answer("small", answer)
    assert cascade.settled
    assert cascade.advance() is None
    cascade.answer("pro", Answer(value="y", confidence=0.9))

    result = cascade.advance()

    assert result is not None
    assert (result.value, result.doubts, result.accepted) == ("y", (doubt,), True)


def test_when_the_last_stage_fails_its_check_an_earlier_answer_is_given_as_doubtful() -> None:
    cascade = Cascade([Stage(members=("small",), minimum_confidence=0.9), TOP])
    cascade.answer("small", Answer(value="x", confidence=0.5))
    cascade.advance()
    cascade.answer("pro", Answer(value="y", passed=False))

    result = cascade.advance()

    assert result is not None
    assert (result.accepted, result.value, result.by, result.stage) == (False, "x", "small", 0)
    assert result.doubts == ("low_confidence", "failed_check")


def test_without_any_usable_answer_there_is_none() -> None:
    cascade = Cascade([Stage(members=("small",)), TOP])
    cascade.absent("small", "late")
    cascade.advance()
    cascade.answer("pro", Answer(value="y", fits=False))

    result = cascade.advance()

    assert result is not None
    assert (result.accepted, result.by, result.value) == (False, None, None)


def test_a_stage_is_settled_as_soon_as_it_cannot_agree_any_more() -> None:
    cascade = Cascade([Stage(members=("a", "b", "c"), quorum=2), TOP])
    cascade.answer("a", Answer(value=1))
    assert not cascade.settled
    cascade.answer("b", Answer(value=1))
    assert cascade.settled


def test_cheapest_first_leaves_out_the_incapable_and_ends_with_unknown_prices() -> None:
    prices = {"dear": 3.0, "unknown": None, "free": 0.0, "blind": 0.1}

    stages = cheapest_first(prices, ["dear", "unknown", "free"])

    assert [stage.members for stage in stages] == [("free",), ("dear",), ("unknown",)]


def test_it_is_as_good_as_the_best_single_member_at_little_more_than_half_its_cost() -> None:
    price = {"flash": 0.106, "coder": 0.201, "pro": 1.645}
    skills = {"flash": skill_for(0.658), "coder": skill_for(0.639), "pro": skill_for(0.717)}
    right = alone = 0
    cost = 0.0
    asked = questions(skills, 8000, seed=5)
    for question in asked:
        cascade = Cascade([PAIR, TOP])
        while cascade.result is None:
            for member in cascade.to_ask:
                cascade.answer(member, Answer(value=question.answers[member]))
                cost += price[member]
            cascade.advance()
        right += cascade.result.value == question.truth
        alone += question.answers["pro"] == question.truth

    assert right >= alone
    assert cost <= 0.6 * price["pro"] * len(asked)


def test_a_stage_and_a_cascade_cannot_be_empty() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Stage(members=())
    with pytest.raises(ValueError, match="quorum"):
        Stage(members=("a",), quorum=2)
    with pytest.raises(ValueError, match="at least one stage"):
        Cascade([])


LEARNED = Escalation(
    stay={
        "flash": Scorer(weights={"always": 0.0, "always agree": 1.5}),
        "coder": Scorer(weights={"always": 0.0, "always agree": 1.5, "subject code": 1.0}),
    },
    go=Scorer(weights={"always": 1.0, "subject law agree": 2.0}),
    least_gain=0.05,
)


@pytest.mark.parametrize(
    ("subject", "answers", "expected", "doubts"),
    [
        ("art", ("a", "a"), "a", ()),
        ("art", ("a", "b"), None, ("disagreement",)),
        ("law", ("a", "a"), None, ("better_expected",)),
        ("code", ("a", "b"), "b", ()),
    ],
)
def test_what_was_learned_says_whether_the_next_stage_is_worth_its_price(
    subject: str, answers: tuple[str, str], expected: str | None, doubts: tuple[str, ...]
) -> None:
    cascade = Cascade([PAIR, TOP], escalations=[LEARNED], subject=subject)
    cascade.answer("flash", Answer(value=answers[0]))
    assert not cascade.settled
    cascade.answer("coder", Answer(value=answers[1]))
    assert cascade.settled

    result = cascade.advance()

    if expected is not None:
        assert result is not None
        assert (result.value, result.stage, result.accepted) == (expected, 0, True)
    else:
        assert result is None
        cascade.answer("pro", Answer(value="c"))
        last = cascade.advance()
        assert last is not None
        assert (last.value, last.doubts) == ("c", doubts)


@pytest.mark.parametrize("broken", [Answer(value="a", fits=False), None])
def test_what_was_learned_does_not_keep_an_answer_that_is_missing_or_broken(
    broken: Answer | None,
) -> None:
    cascade = Cascade([PAIR, TOP], escalations=[LEARNED], subject="code")
    cascade.answer("flash", Answer(value="a"))
    if broken is None:
        cascade.absent("coder", "MODEL_OVERLOADED")
    else:
        cascade.answer("coder", broken)
    assert cascade.advance() is None


def test_the_pair_whose_agreement_spares_the_dear_member_is_chosen() -> None:
    rates = {"pro": 0.72, "flash": 0.66, "coder": 0.64, "tiny": 0.3, "tinier": 0.25}
    seen = questions({name: skill_for(rate) for name, rate in rates.items()}, 800, 1)
    prices = {"pro": 16.0, "flash": 1.0, "coder": 2.0, "tiny": 0.1, "tinier": 0.1}

    assert choose_pair(seen, prices, "pro") == ("flash", "coder")
    assert choose_pair(seen, prices | {"coder": 15.0}, "pro") != ("flash", "coder")
    assert choose_pair(seen, {"pro": 16.0, "flash": 9.0, "coder": 9.0}, "pro") is None
