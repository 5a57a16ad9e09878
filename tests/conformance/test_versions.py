"""The written matrix of versions: every pair of a caller and an agent does what it says.

Only 1.0 exists. A later minor is played by 1.1 messages with members nobody knows yet, a later
major by 2.0 messages and the subjects of ``dragoman.v2``.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dragoman_agents import Agent, serving
from dragoman_bus import Bus
from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.protocol.errors import NoResponders
from dragoman_bus.protocol.messages import ErrorMessage, TaskFinal, TaskSubmit
from dragoman_bus.protocol.subjects import agent_subject
from dragoman_bus.protocol.versions import negotiate
from dragoman_bus.transports.memory import MemoryBroker
from tests.support.scripted_agent import ScriptedAgent

pytestmark = pytest.mark.anyio

ONE, MINOR, MAJOR, BOTH = ["1.0"], ["1.0", "1.1"], ["2.0"], ["1.0", "1.1", "2.0"]

MATRIX = [
    (ONE, ONE, "1.0"),
    (ONE, MINOR, "1.0"),
    (ONE, MAJOR, None),
    (ONE, BOTH, "1.0"),
    (MINOR, ONE, "1.0"),
    (MINOR, MINOR, "1.1"),
    (MINOR, MAJOR, None),
    (MINOR, BOTH, "1.1"),
    (MAJOR, ONE, None),
    (MAJOR, MINOR, None),
    (MAJOR, MAJOR, "2.0"),
    (MAJOR, BOTH, "2.0"),
    (BOTH, ONE, "1.0"),
    (BOTH, MINOR, "1.1"),
    (BOTH, MAJOR, "2.0"),
    (BOTH, BOTH, "2.0"),
]


def submission(version: str, **members: Any) -> bytes:
    """A submission as a caller of ``version`` would send it."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": "m-1",
            "source": "/clients/other",
            "type": "dev.dragoman.task.submit",
            "time": "2026-11-24T12:00:00Z",
            "protocolversion": version,
            "data": {
                "taskId": "task-1",
                "skill": "echo",
                "message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]},
                **members,
            },
        }
    ).encode()


@pytest.mark.parametrize(("caller", "agent", "spoken"), MATRIX, ids=str)
async def test_a_pair_speaks_what_the_matrix_says(
    caller: list[str], agent: list[str], spoken: str | None
) -> None:
    assert negotiate(caller, agent) == spoken


@pytest.fixture
async def broker() -> MemoryBroker:
    return MemoryBroker()


def echo_agent() -> Agent:
    agent = Agent("echo")

    @agent.skill
    async def echo(text: str) -> str:
        return text

    return agent


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.9999"])
async def test_an_agent_of_1_0_serves_every_caller_of_major_1(
    broker: MemoryBroker, version: str
) -> None:
    transport = broker.connect()
    async with serving(echo_agent(), broker.connect()):
        document = submission(version, membersOfTomorrow={"a": [1]})
        answer = decode((await transport.request(agent_subject("echo"), document, timeout=5)).data)

    assert isinstance(answer, TaskFinal)
    assert answer.protocolversion == "1.0"


async def test_an_agent_of_1_0_refuses_major_2_and_lists_what_it_supports(
    broker: MemoryBroker,
) -> None:
    transport = broker.connect()
    async with serving(echo_agent(), broker.connect()):
        subject = agent_subject("echo")
        answer = decode((await transport.request(subject, submission("2.0"), timeout=5)).data)
        with pytest.raises(NoResponders):
            await transport.request("dragoman.v2.rpc.echo", submission("2.0"), timeout=5)

    assert isinstance(answer, ErrorMessage)
    assert answer.data.error.code == "UNSUPPORTED_VERSION"
    assert answer.data.error.supported_versions == ["1.0"]
    assert answer.data.task_id == "task-1"


async def test_a_caller_of_1_0_understands_an_agent_of_a_later_minor(
    broker: MemoryBroker,
) -> None:
    agent = await ScriptedAgent(broker.connect()).start()
    async with Bus(broker.connect()) as bus:
        task = await bus.submit("work", "hello")
        _, delivery = await agent.expect(TaskSubmit)
        final = json.loads(encode(agent.final(task.task_id, 1, "from tomorrow")))
        final["protocolversion"] = "1.1"
        final["data"]["mood"] = "cheerful"
        await agent.transport.publish(delivery.reply, json.dumps(final).encode())

        assert (await asyncio.wait_for(task.result(), 5)).text == "from tomorrow"
