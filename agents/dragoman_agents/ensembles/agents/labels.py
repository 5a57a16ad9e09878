"""Labelled results in a form that can be stored, and what is fitted to them.

Spec: spec/ensembles.md, learning. Answers are kept as numbers of the groups they fall into: whether
two members said the same is all that weights are learned from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from dragoman_agents.ensembles.admission import Labelled
from dragoman_agents.ensembles.agreement import Agreement
from dragoman_agents.ensembles.reputation import Account, Reputation
from dragoman_agents.ensembles.weighting import JointWeights, fit_weights

__all__ = [
    "ENOUGH_LABELS",
    "Ballot",
    "Basis",
    "Label",
    "Learned",
    "Weights",
    "fitted",
    "grouped",
    "label_of",
    "observe_consensus",
    "observe_label",
    "weigh_in",
]

ENOUGH_LABELS = 50
"""From so many labels on weights are learned together; before, from each member's own account."""
MOST_LABELS = 1000
MOST_ANSWERS = 5000
"""Of all labels together: the document has to fit into one message."""
SMALLEST_WEIGHT = 1e-3

Basis = Literal["equal", "given", "accounts", "labels"]
"""Where weights come from; those of accounts and of labels are log-odds."""


class Ballot(Struct):
    """What the members said to one task.

    Attributes:
        answers: Their answers.
        by: Whose answer was given, if one was.
        subject: What the task was about.
    """

    answers: dict[str, Any] = {}
    by: str | None = None
    subject: str = ""


class Label(Struct, array_like=True):
    """One judged task: who said what, as numbers of groups, and which group is right (-1: none)."""

    answers: dict[str, int]
    right: int
    subject: str = ""


class Learned(Struct):
    """The document that replicas share.

    Attributes:
        accounts: Per member: right, and seen; the past counts less.
        subjects: Per subject and member: right, and seen.
        labels: The latest judged tasks.
        count: How many were judged in all.
    """

    accounts: dict[str, tuple[float, float]] = {}
    subjects: dict[str, dict[str, tuple[float, float]]] = {}
    labels: list[Label] = []
    count: int = 0


class Weights(Struct, frozen=True):
    """How much each member's vote counts, and where that comes from."""

    of: Mapping[str, float]
    basis: Basis

    @property
    def are_log_odds(self) -> bool:
        """Whether a vote with them has a confidence."""
        return self.basis in ("accounts", "labels")


def grouped(answers: Mapping[str, Any], agreement: Agreement) -> tuple[dict[str, int], list[Any]]:
    """The answers as numbers of the groups they fall into, and one answer of each group."""
    groups: list[Any] = []
    numbers: dict[str, int] = {}
    for name, value in answers.items():
        if not agreement.usable(value):
            continue
        for number, known in enumerate(groups):
            if agreement.agree(known, value):
                numbers[name] = number
                break
        else:
            numbers[name] = len(groups)
            groups.append(value)
    return numbers, groups


def label_of(ballot: Ballot, truth: Any, agreement: Agreement, subject: str) -> Label:
    """A ballot with the right answer."""
    numbers, groups = grouped(ballot.answers, agreement)
    right = next(
        (number for number, value in enumerate(groups) if agreement.agree(value, truth)), -1
    )
    return Label(numbers, right, subject)


def observe_label(learned: Learned, label: Label, memory: float) -> None:
    """Count a label, for each member and for all of them together."""
    table = learned.subjects.setdefault(label.subject, {})
    for name, number in label.answers.items():
        is_right = number == label.right
        account = learned.accounts.get(name, (0.0, 0.0))
        learned.accounts[name] = (account[0] * memory + is_right, account[1] * memory + 1.0)
        tally = table.get(name, (0.0, 0.0))
        table[name] = (tally[0] + is_right, tally[1] + 1.0)
    learned.labels.append(label)
    del learned.labels[:-MOST_LABELS]
    while sum(len(one.answers) for one in learned.labels) > MOST_ANSWERS:
        del learned.labels[0]
    learned.count += 1


def observe_consensus(learned: Learned, answers: Mapping[str, int], known: Reputation) -> None:
    """Take the vote of the others for the label of each member."""
    reputation = Reputation(
        prior=known.prior, strength=known.strength, choices=known.choices, memory=known.memory
    )
    for name, (right, seen) in learned.accounts.items():
        reputation.accounts[name] = Account(right, seen)
    reputation.observe_consensus(answers)
    for name, account in reputation.accounts.items():
        learned.accounts[name] = (account.right, account.seen)


def fitted(labels: Sequence[Label], choices: int) -> JointWeights | None:
    """Weights learned together; ``None`` while there are too few labels. Takes a while."""
    if len(labels) < ENOUGH_LABELS:
        return None
    members = sorted({name for label in labels for name in label.answers})
    questions = [Labelled(label.answers, label.right, label.subject) for label in labels]
    return fit_weights(questions, members, choices=choices)


def weigh_in(weights: dict[str, float], order: Sequence[str], quorum: int) -> dict[str, float]:
    """Let at least a quorum of members count, a little, so that a verdict stays possible.

    Args:
        weights: As learned.
        order: Who comes first among those that would not count.
        quorum: How many must agree.
    """
    counted = [name for name in order if weights[name] > 0]
    for name in order:
        if len(counted) >= quorum:
            break
        if weights[name] == 0:
            weights[name] = SMALLEST_WEIGHT
            counted.append(name)
    return weights
