"""No secret in an error or a log, though a library's exception repeats it."""

from __future__ import annotations

import logging

import pytest

from dragoman_agents import Agent, serving
from dragoman_agents.masking import masked
from dragoman_agents.models.secrets import Secret, read_secret
from dragoman_bus import Bus
from dragoman_bus.protocol.errors import DragomanError, InvalidInput, NotConfigured, TaskFailed
from dragoman_bus.transports.memory import MemoryBroker

pytestmark = pytest.mark.anyio

KEY = "sk/9+f3=Kx81QmZ"


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError(f"401 for Authorization: Bearer {KEY}"),
        KeyError(KEY),
        TaskFailed(f"the provider said {KEY}", details={"headers": [{"authorization": KEY}]}),
        InvalidInput(f"not this: {KEY}"),
        ConnectionError("cannot connect to postgres://agent:hunter2hunter2@db/x"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_what_a_skill_raises_is_told_without_keys_and_passwords(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    agent = Agent("leaky")

    @agent.skill
    async def leak(text: str) -> str:
        try:
            raise ValueError(f"inside: {KEY}")
        except ValueError:
            raise failure from None

    broker = MemoryBroker()
    async with serving(agent, broker.connect()), Bus(broker.connect()) as bus:
        with pytest.raises(DragomanError) as raised:
            await bus.ask("leak", "x")

    shown = "\n".join([str(raised.value), repr(raised.value.details), caplog.text])
    shown += "".join(record.getMessage() for record in caplog.records)
    assert KEY not in shown
    assert "hunter2" not in shown
    assert "[redacted]" in shown


def test_short_values_and_other_variables_stay_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    monkeypatch.setenv("SOME_NAME", "readable text")
    assert masked("abc and readable text at http://host:80/a@b") == (
        "abc and readable text at http://host:80/a@b"
    )


def test_a_key_is_masked_as_it_stands_in_an_address_too() -> None:
    assert Secret(KEY).redact(f"GET /v1?key=sk%2F9%2Bf3%3DKx81QmZ and {KEY}") == (
        "GET /v1?key=[redacted] and [redacted]"
    )


def test_a_key_where_its_files_name_belongs_is_not_repeated() -> None:
    with pytest.raises(NotConfigured) as raised:
        read_secret(file=f"/etc/{KEY.replace('/', '')}")
    assert "a file in /etc" in raised.value.message
    assert "Kx81QmZ" not in raised.value.message
