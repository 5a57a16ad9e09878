"""Apple's model: on a Mac through a stand-in of its SDK, elsewhere explained."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from dragoman_agents.models import (
    Done,
    Message,
    ModelError,
    ModelSettings,
    Request,
    TextDelta,
    apple,
    open_adapter,
)
from dragoman_agents.models.apple import KIND_BY_ERROR, AppleOnDevice
from dragoman_bus.protocol.errors import NotConfigured
from tests.support.apple_sdk import ERRORS, AppleSdk, Pieces, Reason

pytestmark = pytest.mark.anyio

LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["yes", "no"]}},
    "required": ["label"],
}


def ask(text: str = "Hi", **rest: Any) -> Request:
    return Request(messages=(Message(role="user", text=text),), **rest)


@pytest.fixture
async def sdk(monkeypatch: pytest.MonkeyPatch) -> AppleSdk:
    made = AppleSdk()
    monkeypatch.setitem(sys.modules, "apple_fm_sdk", made)
    monkeypatch.setattr(apple, "PLATFORM", "darwin")
    return made


@pytest.fixture
async def mac(sdk: AppleSdk) -> AppleOnDevice:
    adapter = open_adapter(ModelSettings(provider="apple", model="apple-on-device"))
    assert isinstance(adapter, AppleOnDevice)
    return adapter


async def test_a_mac_answers_with_instructions_and_options(
    sdk: AppleSdk, mac: AppleOnDevice
) -> None:
    sdk.answers.append(Pieces(("Hel", "lo ", "there")))
    await mac.health()
    result = await mac.generate(ask(system="Be brief", temperature=0.0, max_output_tokens=9))
    assert (result.text, result.finish, result.model) == ("Hello there", "stop", "apple-on-device")
    assert result.usage.source == "none"
    (asked,) = sdk.asked
    assert (asked["instructions"], asked["prompt"]) == ("Be brief", "Hi")
    assert asked["options"].sampling.kind == "greedy"
    assert asked["options"].maximum_response_tokens == 9


async def test_a_mac_streams_what_is_new_in_each_snapshot(
    sdk: AppleSdk, mac: AppleOnDevice
) -> None:
    sdk.answers.append(Pieces(("Hel", "lo ", "there")))
    events = [event async for event in mac.stream(ask(seed=4))]
    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert texts == ["Hel", "lo ", "there"]
    assert isinstance(events[-1], Done)
    assert events[-1].result.text == "Hello there"
    assert sdk.asked[0]["options"].sampling.seed == 4


async def test_a_conversation_is_told_as_one_prompt(sdk: AppleSdk, mac: AppleOnDevice) -> None:
    sdk.answers.append(Pieces(("Six",)))
    turns = (
        Message(role="user", text="Two and three?"),
        Message(role="assistant", text="Five"),
        Message(role="user", text="One more?"),
    )
    await mac.generate(Request(messages=turns))
    told = sdk.asked[0]["prompt"]
    assert told == "user: Two and three?\n\nassistant: Five\n\nuser: One more?"


async def test_a_schema_is_told_in_words_and_repaired(sdk: AppleSdk, mac: AppleOnDevice) -> None:
    sdk.answers.extend([Pieces(("perhaps",)), Pieces(('{"label": "no"}',))])
    result = await mac.generate(ask(schema=LABEL))
    assert (result.data, result.schema_mode) == ({"label": "no"}, "repaired")
    assert "enum" in sdk.asked[0]["instructions"]


@pytest.mark.parametrize("name", ERRORS)
async def test_each_of_its_errors_has_a_kind(sdk: AppleSdk, mac: AppleOnDevice, name: str) -> None:
    sdk.answers.append(getattr(sdk, name)("said the framework"))
    with pytest.raises(ModelError, match="said the framework") as failed:
        await mac.generate(ask())
    assert failed.value.kind == KIND_BY_ERROR[name]
    assert failed.value.__cause__ is None


async def test_an_error_that_nobody_knows_is_internal(sdk: AppleSdk, mac: AppleOnDevice) -> None:
    sdk.answers.append(RuntimeError("boo"))
    with pytest.raises(ModelError) as failed:
        await mac.generate(ask())
    assert failed.value.kind == "internal"


async def test_canceling_reaches_the_framework(sdk: AppleSdk, mac: AppleOnDevice) -> None:
    sdk.answers.append(Pieces((), stalls=True))
    call = asyncio.create_task(mac.generate(ask()))
    await asyncio.wait_for(sdk.stalling.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert sdk.canceled.is_set()


async def test_a_mac_without_apple_intelligence_says_what_to_do(
    sdk: AppleSdk, mac: AppleOnDevice
) -> None:
    sdk.available = (False, Reason.APPLE_INTELLIGENCE_NOT_ENABLED)
    with pytest.raises(ModelError, match="not enabled.*System Settings") as failed:
        await mac.health()
    assert failed.value.kind == "unavailable"


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac it works")
def test_elsewhere_the_error_says_how_to_reach_a_mac() -> None:
    with pytest.raises(NotConfigured, match=r"fm serve.*apple-fm-server.*base_url"):
        open_adapter(ModelSettings(provider="apple", model="apple-on-device"))


def test_a_mac_without_the_package_is_told_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apple, "PLATFORM", "darwin")
    monkeypatch.setitem(sys.modules, "apple_fm_sdk", None)
    with pytest.raises(NotConfigured, match=r"dragoman\[apple\]"):
        open_adapter(ModelSettings(provider="apple", model="apple-on-device"))
