"""A caller needs no more than the table of the specification gives it."""

from __future__ import annotations

import json
import logging
import re
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from dragoman_agents import Agent, serving
from dragoman_bus import Bus
from dragoman_bus.protocol.errors import BusUnavailable
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import NatsOptions, NatsTransport

pytestmark = pytest.mark.anyio

SPEC = Path(__file__).parents[3] / "spec" / "nats-binding.md"


def granted(row: str) -> tuple[list[str], list[str]]:
    """What the row of the table under Permissions that begins with ``row`` lets be published and
    subscribed to.
    """
    table = SPEC.read_text("utf-8").partition("## Permissions")[2]
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {row}")]
    publish, subscribe = [
        [subject for text in re.findall("`([^`]+)`", cell) for subject in spelled_out(text)]
        for cell in line.split("|")[2:4]
    ]
    return publish, subscribe


def spelled_out(subject: str) -> list[str]:
    """``a.{b,c}`` as ``a.b`` and ``a.c``; callers here have the inbox ``_INBOX.me``."""
    before, _, choice = subject.replace("<inbox>", "_INBOX.me").partition("{")
    return [before + one for one in choice.rstrip("}").split(",")]


def users() -> str:
    """A caller, and one that is a reader as well, as the configuration of a server."""
    caller, reader = granted("caller"), granted("reader")
    allowed = {"caller": caller, "reader": (caller[0] + reader[0], caller[1] + reader[1])}
    listed = ["{user: admin, password: p}"]
    listed += [
        f"{{user: {name}, password: p, permissions: {{"
        f"publish: {json.dumps(publish)}, subscribe: {json.dumps(subscribe)}}}}}"
        for name, (publish, subscribe) in allowed.items()
    ]
    return f"accounts {{ A {{ jetstream: enabled, users: [{', '.join(listed)}] }} }}"


def worker() -> Agent:
    """An agent that repeats."""
    agent = Agent("worker")

    @agent.skill
    async def echo(text: str) -> str:
        return text

    return agent


async def test_a_caller_needs_nothing_beyond_its_permissions_and_a_reader_sees_who_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        NatsServer(tmp_path, extra_configuration=users()) as server,
        AsyncExitStack() as stack,
    ):

        async def connect(user: str, prefix: str = "_INBOX") -> NatsTransport:
            options = replace(NatsOptions.from_url(server.url), user=user, password="p")
            transport = await NatsTransport.connect(replace(options, inbox_prefix=prefix))
            stack.push_async_callback(transport.close)
            return transport

        await stack.enter_async_context(serving(worker(), await connect("admin")))
        reader = await stack.enter_async_context(Bus(await connect("reader", "_INBOX.me")))
        caller = await stack.enter_async_context(Bus(await connect("caller", "_INBOX.me")))
        with caplog.at_level(logging.WARNING):
            for bus in (reader, caller):
                assert (await bus.ask("echo", "hello", deadline=10)).text == "hello"
            assert [view.name for view in await reader.discover()] == ["worker"]
        assert caplog.messages == []

        with pytest.raises(BusUnavailable, match="subscribe to") as refused:
            await caller.discover()
        assert refused.value.code == "PERMISSION_DENIED"
