"""Every way an OpenAI-compatible server can fail, and what the adapter makes of it."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
import traceback
from contextlib import aclosing

import pytest

from dragoman_agents.models import (
    MODEL_ERROR_KINDS,
    ModelError,
    ModelErrorKind,
    ModelSettings,
    OpenAICompatible,
    Request,
    Secret,
)
from tests.integration.models.conftest import KEY
from tests.integration.models.test_openai_compatible import ask, collect
from tests.support.openai_server import (
    MODEL,
    Answer,
    Failure,
    OpenAIServer,
    Raw,
    Reply,
    Silence,
    chunk,
    server_sent,
)

pytestmark = pytest.mark.anyio

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
CONTEXT = "This model's maximum context length is 512 tokens. However, you requested 900."

BOTH_WAYS: list[tuple[str, Answer, ModelErrorKind]] = [
    ("wrong key", Failure(401, {"message": "bad", "code": "invalid_api_key"}), "auth"),
    ("forbidden", Failure(403, {"message": "not yours"}), "auth"),
    ("payment", Failure(402, {"message": "pay"}), "quota"),
    ("no money", Failure(429, {"message": "no", "code": "insufficient_quota"}), "quota"),
    ("too fast", Failure(429, {"message": "slow", "code": "rate_limit_exceeded"}), "rate_limited"),
    ("bare 429", Failure(429, "slow down"), "rate_limited"),
    ("no model", Failure(404, {"message": "no", "code": "model_not_found"}), "unavailable"),
    ("page of a proxy", Failure(502, "<html>bad gateway</html>"), "overloaded"),
    ("own trouble", Failure(500, {"message": "oops", "type": "server_error"}), "overloaded"),
    ("busy", Failure(503, {"message": "busy"}), "overloaded"),
    ("gateway timeout", Failure(504, "late"), "timeout"),
    ("bad parameter", Failure(400, {"message": "no seed", "param": "seed"}), "invalid"),
    ("unprocessable", Failure(422, '{"detail": [{"loc": ["body"]}]}'), "invalid"),
    (
        "context",
        Failure(400, {"message": "x", "code": "context_length_exceeded"}),
        "context_length",
    ),
    ("context in words", Failure(400, {"message": CONTEXT}), "context_length"),
    (
        "llama.cpp's context",
        Failure(400, {"code": 400, "message": "x", "type": "exceed_context_size_error"}),
        "context_length",
    ),
    ("filter", Failure(400, {"message": "no", "code": "content_filter"}), "refused"),
    ("filtered answer", Reply(finish="content_filter"), "refused"),
    ("refusal", Reply(pieces=(), refusal="I cannot help with that"), "refused"),
    ("hangs up", Raw(b""), "unreachable"),
    ("not HTTP", Raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "unreachable"),
]

WHOLE: list[tuple[str, Raw, ModelErrorKind]] = [
    ("cut-off body", Raw(JSON_HEAD + b"Content-Length: 99\r\n\r\n{"), "unreachable"),
    ("cut-off JSON", Raw(JSON_HEAD + b'\r\n{"choices": ['), "internal"),
    ("a list", Raw(JSON_HEAD + b"\r\n[1, 2]"), "internal"),
    ("no choices", Raw(JSON_HEAD + b'\r\n{"choices": []}'), "internal"),
    ("nulls", Raw(JSON_HEAD + b'\r\n{"choices": [{"message": null}]}'), "internal"),
    (
        "text that is none",
        Raw(JSON_HEAD + b'\r\n{"choices":[{"message":{"content":5}}]}'),
        "internal",
    ),
    (
        "a web page",
        Raw(JSON_HEAD.replace(b"application/json", b"text/html") + b"\r\n<p>"),
        "internal",
    ),
]

STREAMS: list[tuple[str, Raw, ModelErrorKind]] = [
    ("nothing", Raw(server_sent()), "unreachable"),
    ("cut off", Raw(server_sent(chunk({"content": "a"}))), "unreachable"),
    (
        "cut off in an event",
        Raw(server_sent(chunk({"content": "a"})) + b'data: {"ch'),
        "unreachable",
    ),
    ("done too early", Raw(server_sent(chunk({"content": "a"}), "[DONE]")), "unreachable"),
    ("not JSON", Raw(server_sent("{nope")), "internal"),
    ("a number", Raw(server_sent("5")), "internal"),
    ("choices that are none", Raw(server_sent({"choices": "abc"})), "internal"),
    ("text that is none", Raw(server_sent(chunk({"content": {"a": 1}}))), "internal"),
    ("not UTF-8", Raw(server_sent() + b"data: \xff\xfe\n\n"), "internal"),
    (
        "error event",
        Raw(server_sent(chunk({"content": "a"}), {"error": {"message": "boom"}})),
        "overloaded",
    ),
    (
        "rate limit event",
        Raw(server_sent({"error": {"message": "slow", "code": "rate_limit_exceeded"}})),
        "rate_limited",
    ),
]


def named(case: object) -> str | None:
    return case.replace(" ", "-") if isinstance(case, str) else None


async def failure_of(adapter: OpenAICompatible, request: Request, *, streamed: bool) -> ModelError:
    with pytest.raises(ModelError) as raised:
        await (collect(adapter, request) if streamed else adapter.generate(request))
    return raised.value


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("case", "answer", "kind"), BOTH_WAYS, ids=named)
async def test_a_failure_has_its_kind_and_is_not_retried(
    adapter: OpenAICompatible,
    server: OpenAIServer,
    case: str,
    answer: Answer,
    kind: ModelErrorKind,
    streamed: bool,
) -> None:
    server.answer_with(answer)
    failure = await failure_of(adapter, ask(), streamed=streamed)
    assert failure.kind == kind, case
    assert (failure.code, failure.retryable) == MODEL_ERROR_KINDS[kind]
    assert len(server.chats) == 1
    assert (await adapter.generate(ask("again"))).text == "You said: again"


@pytest.mark.parametrize(("case", "answer", "kind"), WHOLE, ids=named)
async def test_a_garbled_answer_is_an_error(
    adapter: OpenAICompatible, server: OpenAIServer, case: str, answer: Raw, kind: ModelErrorKind
) -> None:
    server.answer_with(answer)
    assert (await failure_of(adapter, ask(), streamed=False)).kind == kind, case


@pytest.mark.parametrize(("case", "answer", "kind"), STREAMS, ids=named)
async def test_a_garbled_stream_is_an_error_and_never_a_short_answer(
    adapter: OpenAICompatible, server: OpenAIServer, case: str, answer: Raw, kind: ModelErrorKind
) -> None:
    server.answer_with(answer)
    assert (await failure_of(adapter, ask(), streamed=True)).kind == kind, case


async def test_retry_after_is_passed_on(adapter: OpenAICompatible, server: OpenAIServer) -> None:
    server.answer_with(
        Failure(429, {"message": "slow"}, {"Retry-After": "7"}),
        Failure(503, {"message": "busy"}, {"Retry-After-Ms": "1500"}),
    )
    waits = [
        (await failure_of(adapter, ask(), streamed=streamed)).retry_after
        for streamed in (False, True)
    ]
    assert waits == [7.0, 1.5]


async def test_an_address_where_nothing_listens_is_unreachable(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    await server.__aexit__()
    failure = await failure_of(adapter, ask(), streamed=False)
    assert failure.kind == "unreachable"
    assert server.base_url in failure.message


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_silence_ends_at_the_deadline_and_closes_the_connection(
    adapter: OpenAICompatible, server: OpenAIServer, streamed: bool
) -> None:
    server.answer_with(Silence())
    failure = await failure_of(adapter, ask(deadline=time.monotonic() + 0.2), streamed=streamed)
    assert failure.kind == "timeout"
    await asyncio.wait_for(server.client_gone.wait(), 5)


async def test_a_stream_that_stalls_ends_at_the_deadline(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    server.answer_with(Raw(server_sent(chunk({"content": "a"})), stall=True))
    failure = await failure_of(adapter, ask(deadline=time.monotonic() + 0.3), streamed=True)
    assert failure.kind == "timeout"
    await asyncio.wait_for(server.client_gone.wait(), 5)


@pytest.mark.parametrize("seconds", [None, 30.0], ids=["no-deadline", "late-deadline"])
async def test_the_configured_timeout_bounds_a_call_whose_caller_would_wait(
    server: OpenAIServer, seconds: float | None
) -> None:
    server.answer_with(Silence())
    settings = ModelSettings(base_url=server.base_url, model=MODEL, timeout_seconds=0.2)
    asked = ask(deadline=None if seconds is None else time.monotonic() + seconds)
    async with aclosing(OpenAICompatible(settings)) as adapter:
        failure = await failure_of(adapter, asked, streamed=False)
    assert (failure.kind, failure.code) == ("timeout", "MODEL_TIMEOUT")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "answer",
    [Silence(), Raw(server_sent(chunk({"content": "a"})), stall=True)],
    ids=["before-the-answer", "in-the-answer"],
)
async def test_cancellation_reaches_the_socket(
    adapter: OpenAICompatible, server: OpenAIServer, answer: Answer, streamed: bool
) -> None:
    server.answer_with(answer)
    work = asyncio.ensure_future(collect(adapter, ask()) if streamed else adapter.generate(ask()))
    await asyncio.wait_for(server.stalling.wait(), 5)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.wait_for(server.client_gone.wait(), 5)


async def test_leaving_a_stream_closes_the_connection(
    adapter: OpenAICompatible, server: OpenAIServer
) -> None:
    server.answer_with(Raw(server_sent(chunk({"content": "a"})), stall=True))
    async with aclosing(adapter.stream(ask())) as events:
        await anext(events)
    await asyncio.wait_for(server.client_gone.wait(), 5)


ECHOES: list[tuple[str, Answer]] = [
    ("error", Failure(401, {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"})),
    ("page", Failure(500, f"<p>Authorization: Bearer {KEY}</p>" * 99)),
    ("cut at the edge", Failure(400, {"message": "x" * 480 + KEY})),
    ("header", Failure(429, {"message": "slow"}, {"X-Echo": KEY, "X-Request-Id": "r"})),
    ("event", Raw(server_sent({"error": {"message": f"bad key {KEY}"}}))),
    ("not JSON", Raw(server_sent("{" + KEY))),
    ("refusal", Reply(pieces=(), refusal=f"Your key is {KEY}")),
    ("not HTTP", Raw(KEY.encode() + b"\r\n\r\n")),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("case", "answer"), ECHOES, ids=named)
async def test_the_key_never_appears_even_when_the_server_echoes_it(
    adapter: OpenAICompatible,
    server: OpenAIServer,
    caplog: pytest.LogCaptureFixture,
    case: str,
    answer: Answer,
    streamed: bool,
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer_with(answer)
    failure = await failure_of(adapter, ask(), streamed=streamed)
    logging.getLogger("test").error("%s", failure, exc_info=failure)
    shown = [repr(failure), str(failure), repr(failure.details), repr(adapter), case]
    shown += traceback.format_exception(failure)
    shown += [repr(failure.__cause__), repr(failure.__context__)]
    shown += [part for record in caplog.records for part in (record.getMessage(), str(record))]
    shown.append(caplog.text)
    assert KEY not in "\n".join(shown)
    assert KEY[:-4] not in "\n".join(shown)


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(KEY)
    assert KEY not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == KEY
    with pytest.raises(TypeError):
        pickle.dumps(secret)
