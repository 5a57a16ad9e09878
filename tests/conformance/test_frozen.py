"""Released schemas are frozen; the code that enforces it notices every change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman_bus.schema_files import schema_directory
from dragoman_bus.validation.freezing import changed_versions, folder_digest, narrowing_changes

SCHEMAS = schema_directory().parent
MAJOR = 1


def test_no_released_version_has_changed() -> None:
    assert changed_versions(SCHEMAS) == []


def test_the_draft_refuses_nothing_that_its_latest_released_version_accepts() -> None:
    assert narrowing_changes(SCHEMAS, MAJOR) == []


def test_a_draft_that_refuses_what_was_accepted_is_noticed(tmp_path: Path) -> None:
    for version in ("1.9", "1.10", "2.0", "draft"):
        shutil.copytree(schema_directory(), tmp_path / version)
    released = dict.fromkeys(("1.9", "1.10", "2.0"), "sha256:")
    (tmp_path / "digests.json").write_text(json.dumps({"released": released}))
    for version in ("1.9", "2.0"):
        (tmp_path / version / "task.get.json").unlink()
    assert narrowing_changes(tmp_path, 1) == []

    (tmp_path / "draft" / "task.get.json").unlink()

    assert [change.file for change in narrowing_changes(tmp_path, 1)] == ["task.get.json"]
    assert narrowing_changes(tmp_path, 2) == []
    assert narrowing_changes(tmp_path, 3) == []


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
