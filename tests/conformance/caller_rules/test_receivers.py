"""Rules on every receiver, at an agent: what is never answered, and how deep a document may be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dragoman_agents import Agent, serving
from dragoman_bus.protocol.codec import MAXIMUM_MESSAGE_BYTES, decode
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.protocol.messages import BusEvent, TaskFinal
from dragoman_bus.transports.port import Delivery
from dragoman_bus.validation import validate_document
from tests.conformance.caller_rules.documents import Documents
from tests.conftest import MakeTransport
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

MEBIBYTE = 1024 * 1024


def submission(task: str) -> dict[str, Any]:
    """A submission for the skill ``echo``."""
    message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
    data = {"taskId": task, "skill": "echo", "message": message}
    return Documents("none", "none").envelope("task.submit", data, source="/clients/raw")


async def test_an_agent_never_answers_an_error_or_what_has_no_reply_subject(
    make_transport: MakeTransport,
) -> None:
    agent = Agent("echo")

    @agent.skill
    async def echo(text: str) -> str:
        return text

    answers: list[Delivery] = []
    caller = await make_transport()
    await caller.subscribe("answers.>", answers.append)
    refusal = Documents("other", "other-1").error("INTERNAL")
    async with serving(agent, await make_transport()):
        for document in (refusal, refusal | {"time": "never"}, refusal | {"data": {}}):
            body = json.dumps(document).encode()
            await caller.publish("dragoman.v1.rpc.echo", body, reply="answers.error")
        for body in (b"junk", json.dumps(refusal).encode()):
            await caller.publish("dragoman.v1.rpc.echo", body)
        body = json.dumps(submission("task-1")).encode()
        await caller.publish("dragoman.v1.rpc.echo", body, reply="answers.task")
        await eventually(lambda: answers)

    assert [answer.subject for answer in answers] == ["answers.task"]
    assert isinstance(decode(answers[0].data), TaskFinal)


def event(payload: Any) -> bytes:
    data = {"topic": "t", "event": "e", "payload": payload}
    return json.dumps(Documents("a", "a-1").envelope("bus.event", data)).encode()


def test_a_message_of_one_mebibyte_is_accepted() -> None:
    assert MAXIMUM_MESSAGE_BYTES >= MEBIBYTE
    document = event("x" * (MEBIBYTE - len(event(""))))

    assert len(document) == MEBIBYTE
    assert isinstance(decode(document), BusEvent)


def test_a_document_nested_more_than_128_levels_deep_is_refused() -> None:
    # The envelope and its data are two of the levels.
    for levels, fits in ((126, True), (127, False)):
        payload: Any = 1
        for _ in range(levels):
            payload = [payload]
        document = event(payload)
        assert (validate_document(document) == []) is fits
        if fits:
            assert isinstance(decode(document), BusEvent)
        else:
            with pytest.raises(ProtocolError, match="128 levels"):
                decode(document)
