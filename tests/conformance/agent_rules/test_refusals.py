"""What an agent does not accept: told by one error, and nothing of the task was started."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from dragoman_agents import Agent
from dragoman_bus.protocol.payloads import ProtocolExtension
from tests.conformance.agent_rules.conftest import Serve
from tests.conformance.agent_rules.raw_caller import RawCaller, kind_of, state_of
from tests.conformance.agent_rules.workshop import Workshop

pytestmark = pytest.mark.anyio

RPC = "dragoman.v1.rpc.workshop"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("juggle", {}, "UNKNOWN_SKILL"),
    ("echo", {"contract": "sha256:" + "0" * 64}, "CONTRACT_MISMATCH"),
    ("echo", {"requiredExtensions": ["https://example.com/x"]}, "EXTENSION_REQUIRED"),
    ("echo", {"limits": {"deadline": "2020-01-01T00:00:00Z"}}, "DEADLINE_EXCEEDED"),
    (
        "echo",
        {"lineage": {"parentTaskId": "p", "rootTaskId": "p", "path": ["other", "workshop"]}},
        "DELEGATION_LOOP",
    ),
]


@pytest.mark.parametrize(("skill", "members", "code"), REFUSED, ids=[row[2] for row in REFUSED])
async def test_a_refusal_is_one_error_with_the_tasks_id_and_the_task_never_existed(
    serve: Serve, caller: RawCaller, skill: str, members: dict[str, Any], code: str
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)

    refused = await caller.submit(skill, subject=RPC, **members)
    await refused.first()
    later = await caller.ask(instance.id, "get", taskId=refused.task)

    assert [kind_of(one) for one in refused.documents] == ["error"]
    data = refused.documents[0]["data"]
    assert (data["taskId"], data["error"]["code"]) == (refused.task, code)
    assert (data["error"]["retryable"], data["error"]["sideEffects"]) == (
        code == "DEADLINE_EXCEEDED",
        "none",
    )
    assert later["data"]["error"]["code"] == "TASK_NOT_FOUND"
    assert workshop.started == []


async def test_an_extension_that_an_agent_requires_has_to_be_listed(
    serve: Serve, caller: RawCaller
) -> None:
    known = [ProtocolExtension(uri="urn:must", required=True), ProtocolExtension(uri="urn:may")]
    agent = Agent("extended", extensions=known)

    @agent.skill
    async def echo(text: str) -> str:
        return text

    await serve(agent)

    for listed in ([], ["urn:may"], ["urn:must", "urn:unheard-of"]):
        members = {"requiredExtensions": listed} if listed else {}
        refused = await (await caller.submit("echo", **members)).first()
        assert refused["data"]["error"]["code"] == "EXTENSION_REQUIRED"
    for listed in (["urn:must"], ["urn:must", "urn:may"]):
        end = await (await caller.submit("echo", requiredExtensions=listed)).end()
        assert state_of(end) == "TASK_STATE_COMPLETED"


async def test_a_full_agent_starts_nothing_of_what_it_refuses(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop(concurrency=1, queue=1)
    instance = await serve(workshop.agent)
    first = await caller.submit("hold", "first")
    second = await caller.submit("hold", "second")
    third = await caller.submit("hold", "third")

    refused = await third.first()
    assert (instance.running, instance.queued) == (1, 1)
    error = refused["data"]["error"]
    assert (error["code"], error["retryable"], error["sideEffects"]) == ("OVERLOADED", True, "none")
    assert error["retryAfterSeconds"] > 0
    workshop.release.set()
    for accepted in (first, second):
        assert state_of(await accepted.end()) == "TASK_STATE_COMPLETED"
    assert workshop.started == ["first", "second"]
    assert third.documents == [refused]


async def test_a_draining_agent_starts_nothing_of_what_it_refuses(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop()
    instance = await serve(workshop.agent)
    running = await caller.submit("hold", "running")
    await running.first()
    assert (await caller.ask(instance.id, "drain"))["data"]["state"] == "draining"

    refused = await caller.submit("echo", subject=f"dragoman.v1.inst.{instance.id}.submit")

    error = (await refused.first())["data"]["error"]
    assert (error["code"], error["retryable"], error["sideEffects"]) == ("DRAINING", True, "none")
    workshop.release.set()
    assert state_of(await running.end()) == "TASK_STATE_COMPLETED"
    assert workshop.started == ["running"]


async def test_what_is_wrong_with_a_message_is_listed_with_its_places(
    serve: Serve, caller: RawCaller
) -> None:
    instance = await serve(Workshop().agent)
    wrong = caller.submission("echo", contextId="Not A Token", flowWindow=0)
    del wrong["data"]["message"]["role"]

    refused = await (await caller.send(RPC, wrong)).first()
    junk = await (await caller.send(RPC, b'{"type":')).first()
    elsewhere = await caller.send(f"dragoman.v1.inst.{instance.id}.get", caller.submission("echo"))

    error = refused["data"]["error"]
    assert error["code"] == "INVALID_MESSAGE"
    assert refused["data"]["taskId"] == wrong["data"]["taskId"]
    listed = {one["path"]: one["message"] for one in error["details"]["violations"]}
    assert listed.keys() == {"/data/contextId", "/data/flowWindow", "/data/message"}
    assert "role" in listed["/data/message"]
    assert [one["path"] for one in junk["data"]["error"]["details"]["violations"]] == [""]
    told = (await elsewhere.first())["data"]["error"]
    assert [one["path"] for one in told["details"]["violations"]] == ["/type"]


async def test_what_is_wrong_with_an_input_or_an_output_is_listed_with_its_places(
    serve: Serve, caller: RawCaller
) -> None:
    await serve(Workshop().agent)

    for skill, given, code, state in (
        ("move", {"point": {"x": "far"}}, "INVALID_INPUT", "TASK_STATE_REJECTED"),
        ("lie", "x", "INVALID_OUTPUT", "TASK_STATE_FAILED"),
    ):
        end = await (await caller.submit(skill, given)).end()
        error = end["data"]["error"]
        assert (error["code"], state_of(end)) == (code, state)
        path = "/point/x" if skill == "move" else "/x"
        assert [one["path"] for one in error["details"]["violations"]] == [path]
        assert all(one["message"] for one in error["details"]["violations"])


@pytest.mark.parametrize("spelled", ["2.0", "2e0", "20E-1"])
async def test_a_number_with_a_fraction_is_no_integer_in_inputs_and_outputs(
    serve: Serve, caller: RawCaller, spelled: str
) -> None:
    agent = Agent("counter")

    @agent.skill
    async def double(number: int) -> int:
        return 2 * number

    @agent.skill
    async def halve(number: int) -> int:
        return number / 2  # type: ignore[return-value]

    def given(input: Any, ctx: Any) -> str:
        return str(input["number"])

    schema = {"type": "object", "properties": {"number": {"type": "integer"}}}
    agent.add_skill("given", given, input_schema=schema)
    await serve(agent)

    for skill in ("double", "given"):
        document = json.dumps(caller.submission(skill, {"number": 77}))
        for number, state in (("2", "COMPLETED"), (spelled, "REJECTED")):
            body = document.replace("77", number).replace("task-", f"{skill}-{number[:1]}-")
            if state == "REJECTED":
                body = body.replace(f'"taskId": "{skill}-2-', f'"taskId": "{skill}-wrong-')
            answers = await caller.send(f"dragoman.v1.skill.{skill}", body.encode())
            assert state_of(await answers.end()) == f"TASK_STATE_{state}", (skill, number)
    end = await (await caller.submit("halve", {"number": 4})).end()
    assert end["data"]["error"]["code"] == "INVALID_OUTPUT"


async def test_a_task_refused_after_it_was_accepted_ends_as_rejected(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop(concurrency=1)
    await serve(workshop.agent)
    await (await caller.submit("hold")).first()
    queued = await caller.submit("move", {"point": "nowhere"})
    assert state_of(await queued.first()) == "TASK_STATE_SUBMITTED"
    workshop.release.set()

    end = await queued.end()

    assert (kind_of(end), state_of(end)) == ("task.final", "TASK_STATE_REJECTED")
    assert end["data"]["error"]["sideEffects"] == "none"
    assert "error" not in {kind_of(one) for one in queued.documents}


async def test_a_failure_says_that_something_may_have_happened(
    serve: Serve, caller: RawCaller
) -> None:
    await serve(Workshop().agent)

    for skill in ("fail", "lie"):
        end = await (await caller.submit(skill)).end()
        assert end["data"]["error"]["sideEffects"] == "possible"


async def test_a_canceled_task_that_had_begun_may_have_done_something(
    serve: Serve, caller: RawCaller
) -> None:
    workshop = Workshop(concurrency=1)
    instance = await serve(workshop.agent)
    running = await caller.submit("hold", "running")
    await running.first()
    queued = await caller.submit("hold", "queued")
    for answers, effects in ((queued, "none"), (running, "possible")):
        await caller.ask(instance.id, "cancel", taskId=answers.task)
        end = await answers.end()
        assert state_of(end) == "TASK_STATE_CANCELED"
        assert end["data"]["error"]["sideEffects"] == effects


async def test_the_first_word_comes_within_a_second_whether_running_or_queued(
    serve: Serve, caller: RawCaller
) -> None:
    agent = Agent("silent", concurrency=3)
    release = asyncio.Event()

    @agent.skill
    async def think(text: str) -> str:
        await release.wait()
        return text

    await serve(agent)
    waits: dict[str, list[float]] = {"TASK_STATE_WORKING": [], "TASK_STATE_SUBMITTED": []}
    for state in [*["TASK_STATE_WORKING"] * 3, *["TASK_STATE_SUBMITTED"] * 3]:
        sent = asyncio.get_running_loop().time()
        answers = await caller.submit("think")
        assert state_of(await answers.first()) == state
        waits[state].append(answers.times[0] - sent)

    # A busy machine may delay some of three; an agent that speaks late delays all.
    assert min(waits["TASK_STATE_WORKING"]) <= 1
    assert min(waits["TASK_STATE_SUBMITTED"]) <= 1
    release.set()
