"""Every adapter fails alike: one kind per cause, one call per try, no secret, no open socket."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from contextlib import aclosing

import pytest

from dragoman_agents.models import MODEL_ERROR_KINDS, ModelError, ModelErrorKind, TextDelta
from tests.contract.models.acts import Act, CutOff, Fail, Garble, Refuse, Say, Stall
from tests.contract.models.asking import ask, events_of, failure_of, result_of
from tests.contract.models.stage import Stage

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])

KINDS: tuple[ModelErrorKind, ...] = (
    "rate_limited",
    "overloaded",
    "auth",
    "quota",
    "invalid",
    "context_length",
    "unavailable",
)


@both_ways
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.scenario(kind)) for kind in KINDS]
)
async def test_a_failure_has_its_kind_and_is_not_retried(
    stage: Stage, kind: ModelErrorKind, streamed: bool
) -> None:
    stage.play(Fail(kind), Say())
    failure = await failure_of(stage.adapter, ask(), streamed=streamed)
    assert failure.kind == kind
    assert (failure.code, failure.retryable) == MODEL_ERROR_KINDS[kind]
    assert stage.calls == 1
    assert failure.details["provider"] == stage.adapter.name
    assert failure.__cause__ is None
    result = await result_of(stage.adapter, ask(), streamed=streamed)
    assert result.text == "Hello world"


@both_ways
@pytest.mark.scenario("rate_limited")
async def test_a_rate_limit_says_how_long_to_wait(stage: Stage, streamed: bool) -> None:
    stage.play(Fail("rate_limited", retry_after=7))
    assert (await failure_of(stage.adapter, ask(), streamed=streamed)).retry_after == 7.0


@both_ways
@pytest.mark.scenario("refused")
async def test_a_refusal_is_an_error_and_not_an_answer(stage: Stage, streamed: bool) -> None:
    stage.play(Refuse())
    assert (await failure_of(stage.adapter, ask(), streamed=streamed)).kind == "refused"


@both_ways
@pytest.mark.scenario("unreachable")
async def test_where_nothing_listens_is_unreachable(stage: Stage, streamed: bool) -> None:
    await stage.close_server()
    assert (await failure_of(stage.adapter, ask(), streamed=streamed)).kind == "unreachable"
    with pytest.raises(ModelError) as unhealthy:
        await stage.adapter.health()
    assert unhealthy.value.kind == "unreachable"


@both_ways
@pytest.mark.scenario("malformed")
async def test_a_garbled_answer_is_an_error(stage: Stage, streamed: bool) -> None:
    stage.play(Garble())
    assert (await failure_of(stage.adapter, ask(), streamed=streamed)).kind == "internal"


@pytest.mark.scenario("cut_off")
@pytest.mark.parametrize("in_a_chunk", [False, True], ids=["at-its-end", "in-a-chunk"])
async def test_a_stream_that_breaks_off_is_never_a_short_answer(
    stage: Stage, in_a_chunk: bool
) -> None:
    stage.play(CutOff(in_a_chunk=in_a_chunk))
    texts = []
    with pytest.raises(ModelError) as broken:
        async for event in stage.adapter.stream(ask()):
            assert isinstance(event, TextDelta)
            texts.append(event.text)
    assert broken.value.kind == "unreachable"
    assert texts in (["Hel"], [])


@both_ways
@pytest.mark.scenario("stall")
@pytest.mark.parametrize("piece", [None, "Hel"], ids=["before-the-answer", "in-the-answer"])
async def test_silence_ends_at_the_deadline_and_closes_the_connection(
    stage: Stage, piece: str | None, streamed: bool
) -> None:
    stage.play(Say(), Stall(piece))
    # An SDK's first call loads and builds what it needs; the deadline is for the second.
    await result_of(stage.adapter, ask(), streamed=streamed)
    late = ask(deadline=time.monotonic() + 0.25)
    failure = await failure_of(stage.adapter, late, streamed=streamed)
    # The caller's time was up, not the model's: no account of models may blame this one.
    assert (failure.kind, failure.code) == ("timeout", "DEADLINE_EXCEEDED")
    await asyncio.wait_for(stage.client_gone.wait(), 5)
    assert stage.calls == 2


@both_ways
@pytest.mark.scenario("cancellation")
@pytest.mark.parametrize("piece", [None, "Hel"], ids=["before-the-answer", "in-the-answer"])
async def test_cancellation_reaches_the_socket(
    stage: Stage, piece: str | None, streamed: bool
) -> None:
    stage.play(Stall(piece))
    work = asyncio.ensure_future(result_of(stage.adapter, ask(), streamed=streamed))
    await asyncio.wait_for(stage.stalling.wait(), 5)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.wait_for(stage.client_gone.wait(), 5)


@pytest.mark.scenario("cancellation", "stream")
async def test_leaving_a_stream_closes_the_connection(stage: Stage) -> None:
    stage.play(Stall("Hel"))
    async with aclosing(stage.adapter.stream(ask())) as events:
        assert await anext(events) == TextDelta("Hel")
    await asyncio.wait_for(stage.client_gone.wait(), 5)


@both_ways
@pytest.mark.scenario("deadline")
async def test_a_call_after_its_deadline_is_not_made(stage: Stage, streamed: bool) -> None:
    late = ask(deadline=time.monotonic() - 1)
    failure = await failure_of(stage.adapter, late, streamed=streamed)
    assert (failure.kind, failure.code) == ("timeout", "DEADLINE_EXCEEDED")
    assert stage.calls == 0


@both_ways
@pytest.mark.scenario("no_secret")
@pytest.mark.parametrize("case", ["auth", "overloaded", "invalid", "garble", "refuse"])
async def test_the_key_appears_nowhere_even_when_the_provider_echoes_it(
    stage: Stage, caplog: pytest.LogCaptureFixture, case: str, streamed: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    acts: dict[str, Act] = {
        "auth": Fail("auth", echo=stage.KEY),
        "overloaded": Fail("overloaded", echo=stage.KEY),
        "invalid": Fail("invalid", echo=stage.KEY),
        "garble": Garble(echo=stage.KEY),
        "refuse": Refuse(words=f"Your key is {stage.KEY}"),
    }
    stage.play(acts[case])
    failure = await failure_of(stage.adapter, ask(), streamed=streamed)
    logging.getLogger("test").error("%s", failure, exc_info=failure)
    shown = [repr(failure), str(failure), repr(failure.details), repr(stage.adapter)]
    shown += traceback.format_exception(failure)
    shown += [repr(failure.__cause__), repr(failure.__context__), caplog.text]
    shown += [part for record in caplog.records for part in (record.getMessage(), str(record))]
    assert stage.KEY not in "\n".join(shown)
    assert stage.KEY[:-4] not in "\n".join(shown)


@pytest.mark.scenario("answer")
async def test_calls_at_the_same_time_do_not_mix(stage: Stage) -> None:
    stage.play(*[Say()] * 5)
    answers = await asyncio.gather(
        *[stage.adapter.generate(ask()) for _ in range(3)],
        *[events_of(stage.adapter, ask()) for _ in range(2)],
    )
    assert len(answers) == 5
    assert stage.calls == 5
