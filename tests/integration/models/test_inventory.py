"""What can be used from here is told truly, and no key is ever shown."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import sys
from pathlib import Path

import msgspec
import pytest

from dragoman_agents.models import PROVIDERS, ModelSettings, PriceSettings
from dragoman_agents.models.inventory import KeyStatus, model_statuses, provider_statuses
from tests.integration.models.conftest import KEY
from tests.support.openai_server import MODEL, Failure, OpenAIServer, Silence

pytestmark = pytest.mark.anyio

PRICE = PriceSettings(
    input_per_million_tokens=1,
    output_per_million_tokens=2,
    currency="EUR",
    as_of=datetime.date(2026, 11, 1),
)


async def test_every_provider_is_told_without_asking_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    found = {
        one.provider: one for one in await provider_statuses({"OPENAI_API_KEY": KEY}, ask=False)
    }
    assert list(found) == list(PROVIDERS)
    assert found["openai"].key == KeyStatus(source="OPENAI_API_KEY", present=True)
    assert found["openrouter"].key == KeyStatus(source="OPENROUTER_API_KEY", present=False)
    assert found["ollama"].key is None
    assert found["openai"].install == 'pip install "dragoman[openai]"'
    assert not found["openai"].installed
    assert found["gemini-vertex"].key is None
    assert found["apple"].supported == (sys.platform == "darwin")
    assert {one.reachable for one in found.values()} == {None}
    assert KEY not in str(found)


async def test_models_are_asked_and_their_failures_told(
    server: OpenAIServer, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    models = {
        "good": ModelSettings(
            base_url=server.base_url,
            model=MODEL,
            api_key_env="GOOD",
            price=PRICE,
            retires_on=datetime.date(2027, 1, 14),
        ),
        "filed": ModelSettings(base_url=server.base_url, model=MODEL, api_key_file=str(file)),
        "unset": ModelSettings(base_url=server.base_url, model=MODEL, api_key_env="NOT_SET"),
        "gone": ModelSettings(base_url="http://127.0.0.1:9/v1", model=MODEL),
        "here": ModelSettings(provider="llama", model=MODEL, options={"path": "no-such.gguf"}),
    }
    good, filed, unset, gone, here = await model_statuses(models, {"GOOD": KEY})
    assert (good.role, good.reachable, good.problem) == ("good", True, None)
    assert good.facts.retires_on == "2027-01-14"
    assert good.facts.price is not msgspec.UNSET
    assert filed.key == KeyStatus(source=str(file), present=True)
    assert filed.reachable
    assert unset.key == KeyStatus(source="NOT_SET", present=False)
    assert "NOT_SET, which is not set" in (unset.problem or "")
    assert gone.problem == "nothing answers at http://127.0.0.1:9/v1"
    assert (here.reachable, here.address) == (None, None)
    assert KEY not in str([good, filed, unset, gone, here])
    assert server.chats == []


async def test_a_refused_key_and_a_silent_server_are_told_in_time(server: OpenAIServer) -> None:
    models = {"one": ModelSettings(base_url=server.base_url, model=MODEL, api_key_env="KEY")}
    server.models = Failure(401, {"message": f"bad key {KEY}", "code": "invalid_api_key"})
    (refused,) = await model_statuses(models, {"KEY": KEY})
    assert not refused.reachable
    assert "401" in (refused.problem or "")
    assert KEY not in str(refused)
    server.models = Silence()
    (silent,) = await model_statuses(models, {"KEY": KEY}, seconds=0.3)
    assert silent.problem == "no answer within 0.3 s"


CONFIGURATION = """
[models.fast]
provider = "openai"
base_url = "BASE_URL"
model = "tiny-llama-1b"
api_key_env = "FAST_KEY"

[[agents]]
name = "clerk"
description = "Reads letters"
model = "fast"

[[agents.skills]]
id = "summarize"
description = "Summarizes"

[[agents]]
name = "scribe"
description = "Writes letters"

[agents.model]
base_url = "BASE_URL"
model = "tiny-llama-1b"

[[agents.skills]]
id = "write"
description = "Writes"
"""


@pytest.mark.parametrize("arguments", [["--json"], []])
async def test_the_command_tells_providers_and_configured_models(
    server: OpenAIServer, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "dragoman.toml").write_text(CONFIGURATION.replace("BASE_URL", server.base_url))
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {"PYTHONPATH": paths, "COLUMNS": "160", "FAST_KEY": KEY, "OPENROUTER_API_KEY": ""}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dragoman_gateways.cli", "models", "--timeout", "3", *arguments),
        cwd=tmp_path,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    shown, complained = (part.decode() for part in await process.communicate())
    assert process.returncode == 0, complained
    assert KEY not in shown + complained
    if not arguments:
        assert "OPENROUTER_API_KEY (not set)" in shown
        assert "agent scribe" in shown
        return
    told = json.loads(shown)
    unasked = {one["provider"] for one in told["providers"] if one["reachable"] is None}
    assert {"gemini-vertex", "azure-openai", "llama", "openrouter"} <= unasked
    assert [one["provider"] for one in told["providers"]] == list(PROVIDERS)
    assert [one["role"] for one in told["models"]] == ["fast", "agent scribe"]
    assert told["models"][0]["key"] == {"source": "FAST_KEY", "present": True}
    assert [one["reachable"] for one in told["models"]] == [True, True]
    assert "price" not in told["models"][0]["facts"]
