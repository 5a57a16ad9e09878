"""What an ensemble learns of its members from results that somebody judged.

Spec: spec/ensembles.md, learning. Accounts and calibration are shared by all replicas; the answers
to a task are kept for a while, so that a label may come later, by the task's id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from dragoman_agents.ensembles.admission import MARGIN, voting_weights
from dragoman_agents.ensembles.agents.members import MemberView
from dragoman_agents.ensembles.agents.store import Store, quietly
from dragoman_agents.ensembles.agreement import Agreement
from dragoman_agents.ensembles.calibration import Calibrator
from dragoman_agents.ensembles.reputation import Account, Reputation
from dragoman_agents.ensembles.routing import QualityTable
from dragoman_bus.client import Bus
from dragoman_bus.protocol.errors import InvalidInput, LocalError

__all__ = ["Ballot", "FeedbackResult", "LearnFrom", "Learned", "Learning"]

LearnFrom = Literal["labels", "consensus"]
"""Weights come from labelled results only, or also from what the other members say."""

KEEP_SECONDS = 86_400.0
"""How long the answers to a task are kept for a label that comes later."""
LARGEST_BALLOT = 64 * 1024
MOST_SCORES = 2000
ENOUGH_SCORES = 30
"""Fewer labelled verdicts than this say nothing of confidence."""
SAVE_SECONDS = 1.0


class Learned(Struct):
    """The document that replicas share.

    Attributes:
        accounts: Per member: right, and seen.
        subjects: Per subject and member: right, and seen.
        scores: Shares of verdicts that were judged, with whether they were right.
    """

    accounts: dict[str, tuple[float, float]] = {}
    subjects: dict[str, dict[str, tuple[float, float]]] = {}
    scores: list[tuple[float, bool]] = []


class Ballot(Struct):
    """What the members said to one task.

    Attributes:
        answers: Their answers.
        by: Whose answer was taken, if one was.
        share: How large its part of the vote was.
        subject: What the task was about.
    """

    answers: dict[str, Any] = {}
    by: str | None = None
    share: float = 0.0
    subject: str = ""


class FeedbackResult(Struct):
    """What a label taught: who was right, and what each member's word counts now."""

    right: dict[str, bool]
    accuracy: dict[str, float]
    weights: dict[str, float]


class Learning:
    """What one ensemble knows of its members.

    Args:
        owner: The ensemble's name.
        agreement: When an answer says the same as a label.
        choices: How many different answers chance would pick from.
        memory: What part of the past counts after one more observation.
        margin: How far below the best member another one may be and still vote.
    """

    def __init__(
        self,
        owner: str,
        agreement: Agreement,
        *,
        choices: int = 2,
        memory: float = 0.995,
        margin: float = MARGIN,
    ) -> None:
        self.reputation = Reputation(choices=choices, memory=memory)
        self.qualities = QualityTable()
        self.calibrator: Calibrator | None = None
        self.margin = margin
        self._owner = owner
        self._agreement = agreement
        self._memory = memory
        self._learned = Learned()
        self._store: Store | None = None
        self._pending: list[Callable[[Learned], None]] = []
        self._saving: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._forget: Callable[[], Any] | None = None

    async def start(self, bus: Bus) -> None:
        """Take over what was learned before, and follow what other replicas learn."""
        if self._store is not None:
            return
        self._store = await Store.open(bus.transport)
        self._forget = await self._store.watch(self._key, Learned, self._heard)

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
        self._store = None

    def weights(self, members: Sequence[MemberView]) -> dict[str, float]:
        """How much each member's vote counts."""
        names = [member.name for member in members]
        weights = dict.fromkeys(names, 1.0)
        if names and any(self.reputation.accounts.get(name) for name in names):
            weights = voting_weights(self.reputation, names, margin=self.margin)
        return weights | {
            member.name: member.member.weight
            for member in members
            if member.member.weight is not None
        }

    def confidence(self, share: float) -> tuple[float, bool]:
        """How likely a verdict with this share is right, and whether that was learned."""
        if self.calibrator is None:
            return share, False
        return self.calibrator.confidence(share), True

    def share_for(self, confidence: float) -> float:
        """The share that stands for a confidence; above any when no share does."""
        if self.calibrator is None or confidence <= 0:
            return confidence
        share = self.calibrator.share_for(confidence)
        return 1.0 if share is None else share

    def remember(self, task_id: str, ballot: Ballot) -> None:
        """Keep the answers to a task, in the background, in case somebody judges them."""
        if self._store is not None and len(msgspec.json.encode(ballot)) <= LARGEST_BALLOT:
            key = f"votes.{self._owner}.{task_id}"
            self._soon(self._store.put(key, ballot, ttl=KEEP_SECONDS))

    def observe_consensus(self, answers: Mapping[str, Any]) -> None:
        """Take the others' vote for the label; saved soon."""
        keyed = self._keyed(answers)
        self._change(lambda learned: _observe_consensus(self._fresh(learned), keyed, learned))

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
        if truth is None and right is None:
            raise InvalidInput("give truth (the right answer) or right (true or false)")
        if self._store is None:
            raise LocalError("the ensemble is not being served", code="NOT_CONFIGURED")
        ballot = await self._store.read(f"votes.{self._owner}.{task_id}", Ballot)
        if ballot is None:
            raise InvalidInput(
                f"{self._owner} keeps no answers of task {task_id}: they are kept for "
                f"{KEEP_SECONDS / 3600:g} hours, and only for tasks that it did"
            )
        judged = self._judge(ballot, truth, right)
        about = ballot.subject if subject is None else subject
        self._change(lambda learned: self._apply(learned, ballot, judged, about))
        await self._save()
        await quietly(self._store.delete(f"votes.{self._owner}.{task_id}"))
        members = list(ballot.answers)
        return FeedbackResult(
            right=judged,
            accuracy={name: round(self.reputation.accuracy(name), 4) for name in members},
            weights={
                name: round(weight, 4)
                for name, weight in voting_weights(
                    self.reputation, members, margin=self.margin
                ).items()
            },
        )

    def _judge(self, ballot: Ballot, truth: Any, right: bool | None) -> dict[str, bool]:
        agreement = self._agreement
        if truth is not None:
            if not agreement.usable(truth):
                raise InvalidInput("truth cannot be compared with the members' answers")
            return {
                name: agreement.usable(value) and agreement.agree(value, truth)
                for name, value in ballot.answers.items()
            }
        if ballot.by is None:
            raise InvalidInput("no answer was given to this task: say what is right by truth")
        given = ballot.answers[ballot.by]
        same = {
            name: agreement.usable(value) and agreement.agree(value, given)
            for name, value in ballot.answers.items()
        }
        # Where the answer given is wrong, nobody knows whether another one is right.
        return same if right else {name: False for name, agrees in same.items() if agrees}

    def _apply(
        self, learned: Learned, ballot: Ballot, judged: Mapping[str, bool], subject: str
    ) -> None:
        for name, is_right in judged.items():
            learned.accounts[name] = _added(
                learned.accounts.get(name, (0.0, 0.0)), is_right, self._memory
            )
            table = learned.subjects.setdefault(subject, {})
            table[name] = _added(table.get(name, (0.0, 0.0)), is_right, 1.0)
        if ballot.by is not None and ballot.by in judged:
            learned.scores.append((ballot.share, judged[ballot.by]))
            del learned.scores[:-MOST_SCORES]

    def _keyed(self, answers: Mapping[str, Any]) -> dict[str, int]:
        """The answers as numbers of the groups they fall into."""
        groups: list[Any] = []
        keyed: dict[str, int] = {}
        for name, value in answers.items():
            if not self._agreement.usable(value):
                continue
            for number, known in enumerate(groups):
                if self._agreement.agree(known, value):
                    keyed[name] = number
                    break
            else:
                keyed[name] = len(groups)
                groups.append(value)
        return keyed

    def _fresh(self, learned: Learned) -> Reputation:
        """A reputation of what a document says."""
        known = self.reputation
        fresh = Reputation(
            prior=known.prior, strength=known.strength, choices=known.choices, memory=known.memory
        )
        for name, (right, seen) in learned.accounts.items():
            fresh.accounts[name] = Account(right, seen)
        return fresh

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

    def _take(self, learned: Learned) -> None:
        self.reputation.accounts = self._fresh(learned).accounts
        self.qualities.replace(
            {
                (name, subject): tally
                for subject, table in learned.subjects.items()
                for name, tally in table.items()
            }
        )
        if len(learned.scores) >= ENOUGH_SCORES:
            self.calibrator = Calibrator.fit(
                [share for share, _ in learned.scores], [right for _, right in learned.scores]
            )

    @property
    def _key(self) -> str:
        return f"learned.{self._owner}"

    def _soon(self, work: Any) -> None:
        task = asyncio.ensure_future(quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _observe_consensus(
    reputation: Reputation, answers: Mapping[str, int], learned: Learned
) -> None:
    reputation.observe_consensus(answers)
    for name, account in reputation.accounts.items():
        learned.accounts[name] = (account.right, account.seen)


def _added(tally: tuple[float, float], right: bool, memory: float) -> tuple[float, float]:
    return tally[0] * memory + right, tally[1] * memory + 1.0
