"""Released schemas are frozen; the code that enforces it notices every change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman_bus.schema_files import schema_directory
from dragoman_bus.validation.freezing import changed_versions, folder_digest

SCHEMAS = schema_directory().parent


def test_no_released_version_has_changed() -> None:
    assert changed_versions(SCHEMAS) == []


def edit(folder: Path) -> None:
    path = folder / "common.json"
    path.write_bytes(path.read_bytes() + b" ")


def remove(folder: Path) -> None:
    (folder / "task.get.json").unlink()


def add(folder: Path) -> None:
    (folder / "examples" / "valid" / "task.get" / "another.json").write_text("{}")


def rename(folder: Path) -> None:
    (folder / "task.get.json").rename(folder / "task.got.json")


@pytest.mark.parametrize("change", [edit, remove, add, rename, shutil.rmtree])
def test_a_change_to_a_released_version_is_noticed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    released = tmp_path / "1.0"
    shutil.copytree(schema_directory(), released)
    digests = {"released": {"1.0": folder_digest(released)}}
    (tmp_path / "digests.json").write_text(json.dumps(digests))
    assert changed_versions(tmp_path) == []

    change(released)

    assert changed_versions(tmp_path) == ["1.0"]
