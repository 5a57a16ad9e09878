"""Generated parts of the specification are up to date, and the AsyncAPI document holds together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from dragoman_bus.protocol.messages import MESSAGE_TYPES
from tests.conformance.requirements_file import ROOT, SPEC

GENERATOR = ROOT / "tools" / "generate.py"


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads((SPEC / "asyncapi.json").read_text(encoding="utf-8"))


def references(node: Any) -> Iterator[str]:
    """All values of ``$ref`` in a document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: Any, reference: str) -> Any:
    """What a reference inside the document points to; ``KeyError`` when nothing is there."""
    node = document
    for step in reference.removeprefix("#/").split("/"):
        node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


def test_what_is_generated_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, GENERATOR, "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_references_inside_the_asyncapi_document_resolve(document: Any) -> None:
    inside = [reference for reference in references(document) if reference.startswith("#/")]
    assert inside
    for reference in inside:
        assert resolve(document, reference), reference


def test_every_schema_that_the_asyncapi_document_refers_to_exists(document: Any) -> None:
    outside = {reference for reference in references(document) if not reference.startswith("#/")}
    assert len(outside) == len(MESSAGE_TYPES)
    assert [name for name in sorted(outside) if not (SPEC / name).resolve().is_file()] == []


def test_the_asyncapi_document_has_every_message_and_uses_it(document: Any) -> None:
    messages = document["components"]["messages"]
    assert {message["name"] for message in messages.values()} == set(MESSAGE_TYPES)
    used = {name for channel in document["channels"].values() for name in channel["messages"]}
    assert used == set(messages)


def test_the_address_of_a_channel_has_exactly_its_parameters(document: Any) -> None:
    for name, channel in document["channels"].items():
        in_address = set(re.findall(r"\{(\w+)\}", channel["address"] or ""))
        assert in_address == set(channel.get("parameters", {})), name


def test_an_operation_uses_messages_of_its_own_channel(document: Any) -> None:
    for name, operation in document["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        for part in (operation, operation.get("reply")):
            if part is None:
                continue
            channel = part["channel"]["$ref"]
            assert part["messages"], name
            for message in part["messages"]:
                assert message["$ref"].startswith(f"{channel}/messages/"), name


def test_every_channel_is_used_by_an_operation(document: Any) -> None:
    used = set()
    for operation in document["operations"].values():
        used.add(operation["channel"]["$ref"])
        used.add(operation.get("reply", operation)["channel"]["$ref"])
    assert used == {f"#/channels/{name}" for name in document["channels"]}
