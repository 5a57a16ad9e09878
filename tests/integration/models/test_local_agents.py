"""Agents declared in a file, on the bus, whose models compute in this process or beside it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from dragoman_agents import serving
from dragoman_agents.configuration import load_configuration
from dragoman_agents.declared import declared_agent
from dragoman_agents.models import open_adapter
from dragoman_bus import Bus
from dragoman_bus.protocol.payloads import ModelIdentity
from dragoman_bus.transports.memory import MemoryBroker
from examples.local_models.tiny_generator import write_tiny_generator
from examples.local_models.tiny_llama import write_tiny_llama

pytestmark = pytest.mark.anyio

FILE = """
[[agents]]
name = "scribe"
description = "Computes here"

[agents.model]
provider = "PROVIDER"
model = "tiny-1"
temperature = 0.0
max_output_tokens = 200

[agents.model.options]
path = "models/tiny"

[[agents.skills]]
id = "answer"
description = "Writes on"

[[agents.skills]]
id = "judge"
description = "Says yes or no"

[agents.skills.output]
type = "object"
required = ["label"]
additionalProperties = false
[agents.skills.output.properties]
label = { enum = ["yes", "no"] }
"""


@pytest.mark.parametrize(
    ("provider", "write"), [("llama", write_tiny_llama), ("onnx-genai", write_tiny_generator)]
)
async def test_a_declared_agent_answers_with_a_local_model(
    provider: str, write: Callable[[Path], Path], tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    write(tmp_path / "models" / "tiny")
    file = tmp_path / "dragoman.toml"
    file.write_text(FILE.replace("PROVIDER", provider))
    declaration = load_configuration(file, environment={}).agents[0]
    assert declaration.model is not None
    broker = MemoryBroker()
    async with aclosing(open_adapter(declaration.model)) as adapter:
        agent = declared_agent(declaration, adapter=adapter)
        async with serving(agent, broker.connect()), Bus(broker.connect()) as bus:
            written = await bus.ask("answer", "The ship")
            judged = await bus.ask("judge", "Is water wet?")
    assert written.text
    assert written.usage is not None
    assert written.usage.output_tokens == 200
    assert written.receipt is not None
    identity = ModelIdentity(provider=provider, family="tiny", model="tiny-1")
    assert written.receipt.model == identity
    assert judged.value["label"] in ("yes", "no")
