"""What a change of a schema does to the set of accepted documents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dragoman_bus.schema_files import schema_directory
from dragoman_bus.validation import compare
from dragoman_bus.validation.difference import compare_schemas

BASE: dict[str, Any] = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "string", "maxLength": 10, "enum": ["x", "y"]}, "b": {}},
}


def changed(**properties: Any) -> dict[str, Any]:
    return {**BASE, "properties": {**BASE["properties"], **properties}}


CHANGES = [
    (changed(a={"type": "string", "maxLength": 9, "enum": ["x", "y"]}), "narrows"),
    (changed(a={"type": "string", "maxLength": 11, "enum": ["x", "y"]}), "widens"),
    (changed(a={"type": "string", "enum": ["x", "y"]}), "widens"),
    (changed(a={"type": "string", "maxLength": 10, "enum": ["x"]}), "narrows"),
    (changed(a={"type": "string", "maxLength": 10, "enum": ["x", "y", "z"]}), "widens"),
    (changed(b={"type": "string"}), "narrows"),
    (changed(c={"type": "string"}), "neutral"),
    ({**BASE, "required": ["a", "b"]}, "narrows"),
    ({**BASE, "required": []}, "widens"),
    ({**BASE, "type": ["object", "null"]}, "widens"),
    ({**BASE, "description": "words"}, "neutral"),
    ({**BASE, "pattern": "x"}, "narrows"),
    ({**BASE, "propertyNames": {"maxLength": 3}}, "narrows"),
]


@pytest.mark.parametrize(("after", "effect"), CHANGES, ids=lambda value: json.dumps(value)[:60])
def test_a_change_is_judged_by_what_it_accepts(after: dict[str, Any], effect: str) -> None:
    assert [change.effect for change in compare_schemas(BASE, after)] == [effect]


def test_equal_schemas_have_no_difference() -> None:
    assert compare(schema_directory(), schema_directory()) == []


def test_a_removed_file_narrows_and_an_added_one_widens(tmp_path: Path) -> None:
    for path in schema_directory().glob("*.json"):
        shutil.copy(path, tmp_path)
    (tmp_path / "task.get.json").unlink()

    assert [d.effect for d in compare(schema_directory(), tmp_path)] == ["narrows"]
    assert [d.effect for d in compare(tmp_path, schema_directory())] == ["widens"]


def test_what_cannot_be_judged_counts_as_breaking() -> None:
    changes = compare_schemas({"pattern": "a"}, {"pattern": "b"})

    assert [(change.effect, change.breaks) for change in changes] == [("unclear", True)]


def test_a_folder_without_schemas_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no JSON Schema"):
        compare(tmp_path, schema_directory())
