"""What an ensemble learns of its members from results that somebody judged.

Spec: spec/ensembles.md, learning. What was learned is shared by all replicas; the answers to a task
are kept for a while, so that a label may come later, by the task's id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from dragoman_agents.ensembles.admission import MARGIN, voting_weights
from dragoman_agents.ensembles.agents.labels import (
    Ballot,
    Label,
    Learned,
    Weights,
    fitted,
    grouped,
    label_of,
    observe_consensus,
    observe_label,
    weigh_in,
)
from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_agents.ensembles.agents.store import Store, quietly
from dragoman_agents.ensembles.agreement import Agreement, Exact
from dragoman_agents.ensembles.reputation import Account, Reputation
from dragoman_agents.ensembles.routing import QualityTable
from dragoman_agents.ensembles.weighting import JointWeights
from dragoman_bus.client import Bus
from dragoman_bus.protocol.errors import InvalidInput, LocalError
from dragoman_bus.protocol.subjects import is_token

__all__ = ["FeedbackResult", "Learning"]

KEEP_SECONDS = 86_400.0
"""How long the answers to a task are kept for a label that comes later."""
LARGEST_BALLOT = 64 * 1024
MOST_WRITES = 64
"""Where tasks end faster than the store takes ballots, some are not kept."""
SAVE_SECONDS = 1.0
GROWTH = 1.05
"""Weights are learned again when there are so many times more labels than the last time."""


class FeedbackResult(Struct):
    """What a label taught: who was right, and what each member's word counts now."""

    right: dict[str, bool]
    accuracy: dict[str, float]
    weights: dict[str, float]
    labels: int


class Learning:
    """What one ensemble knows of its members.

    Args:
        owner: The ensemble's name.
        agreement: When an answer says the same as a label.
        choices: How many different answers there can be.
        memory: What part of the past counts after one more observation, in the accounts.
        margin: How far below the best member another one may be and still vote.
        given: Weights that were learned elsewhere and stay as they are.
        qualities: Labels that were counted elsewhere, by subject and member: right, and seen.
    """

    def __init__(
        self,
        owner: str,
        agreement: Agreement,
        *,
        choices: int = 10,
        memory: float = 0.995,
        margin: float = MARGIN,
        given: JointWeights | None = None,
        qualities: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    ) -> None:
        self.reputation = Reputation(choices=choices, memory=memory)
        self.qualities = QualityTable()
        self.joint = given
        self._is_given = given is not None
        self._counted = qualities or {}
        self._margin = margin
        self._owner = owner
        self._agreement = agreement
        self._memory = memory
        self._learned = Learned()
        self._fitted_at = 0
        self._store: Store | None = None
        self._pending: list[Callable[[Learned], None]] = []
        self._saving: asyncio.Task[None] | None = None
        self._background: set[asyncio.Future[None]] = set()
        self._forget: Callable[[], Any] | None = None
        self._take(self._learned)

    async def start(self, bus: Bus) -> None:
        """Take over what was learned before, and follow what other replicas learn."""
        if self._store is None:
            self._store = await Store.open(bus.transport)
        if self._store is not None and self._forget is None:
            self._forget = await self._store.watch(self._key, Learned, self._heard)
            await self._fit()

    async def stop(self) -> None:
        """Write what was not written yet."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        await quietly(self._save())
        if self._background:
            await asyncio.wait(self._background, timeout=1.0)
        if self._forget is not None:
            await quietly(self._forget())
        self._store = self._forget = None

    def weights(
        self, members: Sequence[MemberView], *, subject: str = "", quorum: int = 1
    ) -> Weights:
        """How much each member's vote counts."""
        names = [member.name for member in members]
        given = {one.name: one.member.weight for one in members if one.member.weight is not None}
        if given or not names:
            return Weights({name: given.get(name, 1.0) for name in names}, "given")
        if self.joint is not None:
            learned = self.joint.weights(subject)
            found = {name: learned.get(name, 0.0) for name in names}
            if any(found.values()):
                return Weights(weigh_in(found, self._ranked(names), quorum), "labels")
        if any(name in self.reputation.accounts for name in names):
            found = voting_weights(self.reputation, names, margin=self._margin)
            return Weights(weigh_in(found, self._ranked(names), quorum), "accounts")
        return Weights(dict.fromkeys(names, 1.0), "equal")

    def remember(self, task_id: str, ballot: Ballot) -> None:
        """Keep the answers to a task, in the background, in case somebody judges them."""
        if self._store is None or len(self._background) >= MOST_WRITES:
            return
        if len(msgspec.json.encode(ballot)) <= LARGEST_BALLOT:
            key = f"votes.{self._owner}.{task_id}"
            self._soon(self._store.put(key, ballot, ttl=KEEP_SECONDS))

    def observe_consensus(self, answers: Mapping[str, Any]) -> None:
        """Take the others' vote for the label; saved soon."""
        numbers, _ = grouped(answers, self._agreement)
        self._change(lambda learned: observe_consensus(learned, numbers, self.reputation))

    async def feedback(
        self,
        task_id: str,
        truth: Any = None,
        right: bool | None = None,
        subject: str | None = None,
    ) -> FeedbackResult:
        """Learn from a label: the right answer, or whether the one that was given is right.

        Raises:
            InvalidInput: neither is given, or nothing is known of the task.
        """
        if self._store is None:
            raise LocalError(
                "the bus keeps nothing for ensembles, so no answers are remembered",
                code="NOT_CONFIGURED",
            )
        if not is_token(task_id):
            raise InvalidInput(f"{task_id!r} is no task's id")
        await asyncio.gather(*self._background, return_exceptions=True)
        label = await self._label(
            self._store, task_id, lambda ballot: self._judge(ballot, truth, right, subject)
        )
        if label is None:
            raise InvalidInput(
                f"{self._owner} keeps no answers of task {task_id}: they are kept for "
                f"{KEEP_SECONDS / 3600:g} hours, until they are judged, and only of its own tasks"
            )
        self._change(lambda learned: observe_label(learned, label, self._memory))
        await self._save()
        await self._fit()
        return self._taught(label)

    async def _label(
        self, store: Store, task_id: str, judge: Callable[[Ballot], Label]
    ) -> Label | None:
        """A judged ballot, once; another replica may be just about to write it."""
        for pause in (0.0, 0.1, 0.3):
            await asyncio.sleep(pause)
            label = await store.take(f"votes.{self._owner}.{task_id}", Ballot, judge)
            if label is not None:
                return label
        return None

    def _judge(self, ballot: Ballot, truth: Any, right: bool | None, subject: str | None) -> Label:
        about = ballot.subject if subject is None else subject
        if truth is not None:
            kinds = {_kind(answer) for answer in ballot.answers.values()}
            # A text where answers are objects would make all members wrong.
            strange = isinstance(self._agreement, Exact) and kinds and _kind(truth) not in kinds
            if strange or not self._agreement.usable(truth):
                raise InvalidInput(
                    "truth cannot be compared with the members' answers: write it as they do"
                )
            return label_of(ballot, truth, self._agreement, about)
        if right is None:
            raise InvalidInput("give truth (the right answer) or right (true or false)")
        if ballot.by is None:
            raise InvalidInput("no answer was given to this task: say what is right by truth")
        label = label_of(ballot, ballot.answers[ballot.by], self._agreement, about)
        if right:
            return label
        # Where the answer given is wrong, nobody knows whether another one is right.
        wrong = {name: number for name, number in label.answers.items() if number == label.right}
        return Label(wrong, -1, about)

    def _taught(self, label: Label) -> FeedbackResult:
        names = sorted(self.reputation.accounts)
        joint = {} if self.joint is None else self.joint.weights(label.subject)
        weights = joint or voting_weights(self.reputation, names, margin=self._margin)
        return FeedbackResult(
            right={name: number == label.right for name, number in label.answers.items()},
            accuracy={name: round(self.reputation.accuracy(name), 4) for name in names},
            weights={name: round(weights.get(name, 0.0), 4) for name in names},
            labels=self._learned.count,
        )

    def _ranked(self, names: Sequence[str]) -> list[str]:
        return sorted(names, key=lambda name: -self.reputation.accuracy(name))

    def _change(self, apply: Callable[[Learned], None]) -> None:
        """Learn at once here, and soon everywhere."""
        apply(self._learned)
        self._take(self._learned)
        self._pending.append(apply)
        if self._saving is None:
            self._saving = asyncio.create_task(self._save_later())

    async def _save_later(self) -> None:
        await asyncio.sleep(SAVE_SECONDS)
        self._saving = None
        await quietly(self._save())

    async def _save(self) -> None:
        pending, self._pending = self._pending, []
        if not pending or self._store is None:
            return

        def apply(learned: Learned) -> None:
            for change in pending:
                change(learned)

        try:
            written = await self._store.change(self._key, Learned, apply)
        except BaseException:
            self._pending = [*pending, *self._pending]
            raise
        self._heard(self._key, written)

    def _heard(self, _: str, learned: Learned | None) -> None:
        """Another replica, or this one, wrote; what is not written yet comes on top."""
        self._learned = learned or Learned()
        for change in self._pending:
            change(self._learned)
        self._take(self._learned)
        self._soon(self._fit())

    def _take(self, learned: Learned) -> None:
        self.reputation.accounts.clear()
        for name, (right, seen) in learned.accounts.items():
            self.reputation.accounts[name] = Account(right, seen)
        tallies: dict[tuple[str, str], tuple[float, float]] = {}
        for subjects in (self._counted, learned.subjects):
            for subject, table in subjects.items():
                for name, (right, seen) in table.items():
                    before = tallies.get((name, subject), (0.0, 0.0))
                    tallies[name, subject] = (before[0] + right, before[1] + seen)
        self.qualities.replace(tallies)

    async def _fit(self) -> None:
        """Learn the weights again when enough is new; in a thread, since it takes a while."""
        few = self._learned.count < self._fitted_at * GROWTH or not self._learned.labels
        if self._is_given or few:
            return
        self._fitted_at = self._learned.count
        labels, choices = list(self._learned.labels), self.reputation.choices
        self.joint = await asyncio.to_thread(fitted, labels, choices)

    @property
    def _key(self) -> str:
        return f"learned.{self._owner}"

    def _soon(self, work: Any) -> None:
        task = asyncio.ensure_future(quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _kind(value: Any) -> type:
    """The kind of a JSON value; all numbers are of one."""
    return float if type(value) is int else type(value)
