"""Half a character, a count beyond all counts, an endless name: none of it costs the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_agents.models import (
    Capability,
    Done,
    Event,
    Message,
    ModelError,
    ModelSettings,
    Request,
    Result,
    TextDelta,
)
from dragoman_agents.models.adapter import ProviderAdapter
from dragoman_agents.models.wire_values import WholeCharacters, count_or_none, whole_characters

REQUEST = Request(messages=(Message(role="user", text="hello"),))
PIECES = st.lists(st.text(st.sampled_from("aé\U0001f600\ud83d\ude00"), max_size=3))


class Torn(ProviderAdapter):
    """Answers in the pieces it is given."""

    def __init__(self, pieces: Sequence[str], model: str = "torn-1") -> None:
        super().__init__(ModelSettings(provider="ollama", model="torn-1"))
        self._pieces = pieces
        self._served = model

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({"text", "stream"})

    async def _ask(self, request: Request, seconds: float) -> Result:
        return Result(text="".join(self._pieces), finish="stop", model=self._served)

    async def _open(self, request: Request, seconds: float) -> AsyncGenerator[Event, None]:
        for piece in self._pieces:
            yield TextDelta(piece)
        yield Done(await self._ask(request, seconds))

    def _explain(self, error: Exception) -> ModelError:
        return ModelError("internal", str(error))

    async def _check_health(self, seconds: float) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def streamed(adapter: Torn) -> tuple[list[str], Result]:
    pieces: list[str] = []
    answers: list[Result] = []
    async with aclosing(adapter.stream(REQUEST)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                pieces.append(event.text)
            elif isinstance(event, Done):
                answers.append(event.result)
    return pieces, answers[0]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (["a\ud83d", "\ude00b"], ["a", "\U0001f600b"]),
        (["a\ud83d", "b"], ["a", "\ufffdb"]),
        (["a", "\ude00"], ["a", "\ufffd"]),
        (["a\ud83d"], ["a", "\ufffd"]),
        (["plain", "größer"], ["plain", "größer"]),
    ],
)
async def test_a_character_that_was_cut_in_half_is_joined_or_replaced(
    sent: list[str], told: list[str]
) -> None:
    pieces, answer = await streamed(Torn(sent))
    assert pieces == told
    assert answer.text == "".join(told)
    assert (await Torn(sent).generate(REQUEST)).text == "".join(told)


@given(PIECES)
def test_pieces_tell_what_the_whole_tells_and_can_be_sent(pieces: list[str]) -> None:
    characters = WholeCharacters()
    told = "".join([characters.take(piece) for piece in pieces]) + characters.rest()
    assert told == whole_characters("".join(pieces))
    told.encode()


@pytest.mark.anyio
async def test_the_name_of_the_model_that_served_fits_a_receipt() -> None:
    assert (await Torn(["x"], model="m" * 3000).generate(REQUEST)).model == "m" * 256


@pytest.mark.parametrize("told", [-1, 2**53, 1.5, True, None, "7"])
def test_what_is_no_count_of_tokens_is_unknown(told: object) -> None:
    assert count_or_none(told) is None
