"""What labelled questions teach an ensemble beforehand, and the file that it is kept in."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dragoman_agents.ensembles.agents.knowledge import (
    CascadeKnowledge,
    ConsensusKnowledge,
    read_knowledge,
    write_knowledge,
)
from dragoman_agents.ensembles.agents.lessons import (
    Lesson,
    Reply,
    labelled,
    learn_cascade,
    learn_consensus,
    learn_qualities,
    prices_of,
    score_cascade,
    score_consensus,
    score_members,
)
from dragoman_agents.ensembles.agreement import NormalizedText
from dragoman_agents.ensembles.cascade import Stage
from dragoman_agents.ensembles.escalation import observed
from dragoman_agents.ensembles.votes import VoteRule
from dragoman_bus.protocol.errors import NotConfigured
from tests.support.simulated_members import CHOICES, questions, skill_for

EXACT = NormalizedText()
ACCURACY = {"good": 0.75, "fair": 0.72, "other": 0.70, "liar": 0.05}
PRICES = {"good": 8.0, "fair": 1.0, "other": 1.0, "liar": 1.0}


def lessons(count: int, seed: int = 1) -> list[Lesson]:
    skills = {name: skill_for(accuracy) for name, accuracy in ACCURACY.items()}
    return [
        Lesson(
            input=f"question {number}",
            truth=str(question.truth),
            input_tokens=10,
            answers={
                name: Reply(value=str(said), output_tokens=5, cost=PRICES[name], currency="USD")
                for name, said in question.answers.items()
            },
        )
        for number, question in enumerate(questions(skills, count, seed))
    ]


def test_a_vote_is_learned_in_which_who_is_always_wrong_counts_nothing() -> None:
    members = list(ACCURACY)
    known = labelled(lessons(400), members, EXACT)

    learned = learn_consensus("guess", known, PRICES, choices=CHOICES)

    weights = learned.weights.weights()
    assert weights["liar"] < 0.1 * weights["good"]
    assert set(learned.order) == set(members)
    assert learned.labels == 400
    score = score_consensus(known, members, VoteRule(quorum=2), choices=CHOICES)
    assert score is not None
    best = max(one.share for one in score_members(lessons(400), members, EXACT).values())
    assert score.share > best - 0.02
    # A quorum that is not reached gives no answer, and the score says so.
    assert score.given <= score.seen == 400


def test_where_a_price_is_unknown_no_order_is_learned() -> None:
    known = labelled(lessons(40), list(ACCURACY), EXACT)
    assert learn_consensus("guess", known, PRICES | {"good": None}, choices=CHOICES).order == ()


def test_a_cascade_learns_to_go_on_where_the_next_stage_is_better() -> None:
    """The cheap ones are right about one subject and wrong about the other."""
    chance = random.Random(2)
    taught = []
    for number in range(300):
        subject = chance.choice(["easy", "hard"])
        said = "a" if subject == "easy" else chance.choice("bcd")
        replies = {"one": said, "two": said, "large": "a"}
        taught.append(
            Lesson(
                input=str(number),
                truth="a",
                subject=subject,
                answers={name: Reply(value=value) for name, value in replies.items()},
            )
        )
    stages = [Stage(members=("one", "two")), Stage(members=("large",))]

    learned = learn_cascade("guess", taught, stages, EXACT, 0.6)

    (escalation,) = learned.escalations
    assert learned.stages == (("one", "two"), ("large",))
    assert not escalation.worth(observed(agree=True, subject="easy"))
    assert escalation.worth(observed(agree=True, subject="hard"))
    score = score_cascade(taught, stages, EXACT, 0.6)
    assert score is not None
    assert score.share > 0.95
    assert score.price is None


def test_a_stage_without_any_answer_teaches_nothing() -> None:
    silent = [Lesson(input="x", truth="a", answers={"one": Reply(error="MODEL_AUTH")})]
    stages = [Stage(members=("one",)), Stage(members=("large",))]
    with pytest.raises(ValueError, match="one: no answer to learn from"):
        learn_cascade("guess", silent, stages, EXACT, 0.4)


def test_qualities_are_counted_by_subject_and_a_silent_member_is_not_judged() -> None:
    taught = [
        Lesson(
            input="x",
            truth="a",
            subject="s",
            answers={"one": Reply(value="A."), "two": Reply(error="OVERLOADED")},
        ),
        Lesson(input="y", truth="a", subject="s", answers={"one": Reply(value="b")}),
    ]
    known = labelled(taught, ["one", "two"], EXACT)
    assert learn_qualities("guess", known).qualities == {"s": {"one": (1.0, 2.0)}}


def test_too_few_lessons_give_no_score() -> None:
    known = labelled(lessons(7), list(ACCURACY), EXACT)
    assert score_consensus(known, list(ACCURACY), VoteRule(), choices=CHOICES) is None


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    known = labelled(lessons(60), list(ACCURACY), EXACT)
    learned = learn_consensus("guess", known, PRICES, choices=CHOICES)
    path = tmp_path / "panel.json"
    path.write_text("what was there before")

    write_knowledge(path, learned)

    assert read_knowledge(str(path), ConsensusKnowledge, ensemble="p", skill="guess") == learned
    assert [one.name for one in tmp_path.iterdir()] == ["panel.json"]
    for kind, skill, words in (
        (CascadeKnowledge, "guess", "not what was learned for it"),
        (ConsensusKnowledge, "other", "for the skill 'guess'"),
    ):
        with pytest.raises(NotConfigured, match=words):
            read_knowledge(str(path), kind, ensemble="p", skill=skill)
    with pytest.raises(NotConfigured, match="`dragoman learn p QUESTIONS` writes it"):
        read_knowledge(str(tmp_path / "none"), ConsensusKnowledge, ensemble="p", skill="guess")


def test_prices_in_several_currencies_are_not_compared() -> None:
    taught = lessons(20)
    assert prices_of(taught, ["good", "fair"]) == {"good": 8.0, "fair": 1.0}
    taught[0].answers["fair"].currency = "EUR"
    assert prices_of(taught, ["good", "fair"]) == {"good": None, "fair": None}
