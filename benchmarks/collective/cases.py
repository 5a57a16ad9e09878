"""Questions with a known answer, and what each model said to them, at what price and how fast."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from dragoman_agents.ensembles.admission import Labelled
from dragoman_agents.ensembles.agents.spending import BYTES_PER_TOKEN

__all__ = ["Case", "Dataset", "Model", "Reply", "Split", "labelled", "splits"]


class Model(Struct, frozen=True):
    """A model and its list price in US dollars per million tokens."""

    name: str
    input_price: float
    output_price: float


class Reply(Struct, frozen=True):
    """What a model said.

    Attributes:
        pick: The answer; ``None`` where it gave none that could be read.
        output_tokens: How long it was.
        price: In US dollars.
        seconds: On the simulated clock.
    """

    pick: str | None
    output_tokens: int
    price: float
    seconds: float


class Case(Struct, frozen=True):
    """One question."""

    id: str
    subject: str
    truth: str
    input_tokens: int
    replies: Mapping[str, Reply]

    def is_right(self, model: str) -> bool:
        """Whether this model's answer is right."""
        return self.replies[model].pick == self.truth

    def question(self) -> dict[str, str]:
        """The input of a task: the number, padded to the question's length."""
        empty = len('{"text":" ","subject":""}') + len(self.id) + len(self.subject)
        padding = "." * max(0, self.input_tokens * BYTES_PER_TOKEN - empty)
        return {"text": f"{self.id} {padding}", "subject": self.subject}

    @property
    def sent_tokens(self) -> int:
        """How long that input is, as ensembles reckon: a few tokens more in the shortest ones."""
        return len(msgspec.json.encode(self.question())) // BYTES_PER_TOKEN

    def picks(self, models: Sequence[str]) -> dict[str, str | None]:
        """What these models said."""
        return {model: self.replies[model].pick for model in models}


class Dataset(Struct, frozen=True):
    """Questions, models, how many answers there are to choose from, and what this is."""

    title: str
    models: Mapping[str, Model]
    cases: Sequence[Case]
    choices: int


class Split(Struct, frozen=True):
    """What is learned from, and what is reported on; never the same questions."""

    number: int
    train: Sequence[Case]
    test: Sequence[Case]


def splits(cases: Sequence[Case], *, folds: int, repeats: int, seed: int) -> Iterator[Split]:
    """Cross-validation, several times: each question is reported on once in every repeat."""
    chance = random.Random(seed)
    for repeat in range(repeats):
        shuffled = list(cases)
        chance.shuffle(shuffled)
        for fold in range(folds):
            train = [case for at, case in enumerate(shuffled) if at % folds != fold]
            yield Split(repeat * folds + fold, train, shuffled[fold::folds])


def labelled(cases: Sequence[Case], models: Sequence[str]) -> list[Labelled]:
    """The cases as the ensembles' learners take them."""
    return [Labelled(case.picks(models), case.truth, case.subject) for case in cases]
