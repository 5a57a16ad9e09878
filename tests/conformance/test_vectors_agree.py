"""Damaged examples by the thousand: schema and codec accept and refuse the same documents."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from dragoman_bus.protocol.codec import decode
from dragoman_bus.protocol.errors import ProtocolError
from dragoman_bus.schema_files import schema_directory
from dragoman_bus.validation import validate_document

EXAMPLES = sorted((schema_directory() / "examples" / "valid").glob("*/*.json"))
MUTATIONS_PER_EXAMPLE = 60

ODDITIES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**53,
    2**70,
    1.0,
    0.5,
    -0.5,
    "",
    "a",
    "A",
    "a.b",
    "a\n",
    "é",
    "x" * 63,
    "x" * 64,
    "x" * 300,
    "x" * 5000,
    "1.0",
    "1.7",
    "2.0",
    "2026-11-24T12:00:00Z",
    "2026-13-24T12:00:00Z",
    "sha256:" + "0" * 64,
    "USD",
    "ROLE_AGENT",
    "TASK_STATE_COMPLETED",
    "TASK_STATE_WORKING",
    "TASK_STATE_UNSPECIFIED",
    [],
    {},
    [1],
    ["a"],
    [None],
    {"text": "a"},
    [{"text": "a"}],
    [{"text": "a", "url": "b"}],
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key in value:
            found += places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            found += places(value[index], (*path, index))
    return found


def damaged(document: Any, chance: random.Random) -> Any:
    result = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2))):
        options = places(result)
        if not options:
            return result
        *way, last = chance.choice(options)
        parent = result
        for step in way:
            parent = parent[step]
        action = chance.randrange(4)
        if action == 0:
            del parent[last]
        elif action == 1 and isinstance(parent, dict):
            parent[chance.choice(("extra", "text", "data", "url", "metadata"))] = chance.choice(
                ODDITIES
            )
        else:
            parent[last] = copy.deepcopy(chance.choice(ODDITIES))
    return result


def codec_accepts(document: bytes) -> bool:
    try:
        decode(document)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_schema_and_codec_agree_on_damaged_examples(path: Path) -> None:
    original = json.loads(path.read_bytes())
    chance = random.Random(f"{path.parent.name}/{path.stem}")

    for _ in range(MUTATIONS_PER_EXAMPLE):
        document = json.dumps(damaged(original, chance)).encode()
        violations = validate_document(document)
        assert codec_accepts(document) == (violations == []), (document, violations)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe{\x00}\x00",
        b'{"type":NaN}',
        b'{"type":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":' * 100_000,
        b"{} {}",
    ],
)
def test_schema_and_codec_agree_that_junk_is_junk(document: bytes) -> None:
    assert validate_document(document)
    assert not codec_accepts(document)
