"""The schema commands: list, show, and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.schema_files import schema_directory
from dragoman_bus.validation import Difference, compare
from dragoman_gateways.cli.exit_codes import ExitCode
from dragoman_gateways.cli.output import console, write_json, write_text
from dragoman_gateways.cli.settings import Settings
from dragoman_gateways.cli.words import plural

__all__ = ["compare_schemas", "list_schemas", "show_schema"]

STYLES = {"narrows": "red", "unclear": "yellow", "widens": "green", "neutral": "dim"}


def list_schemas(version: str, settings: Settings) -> ExitCode:
    """List the schemas of a version."""
    rows = []
    for name, content in _schemas(version).items():
        const = content.get("properties", {}).get("type", {}).get("const", "")
        rows.append((name, str(const), str(content.get("description", ""))))
    if settings.json:
        keys = ("name", "type", "description")
        write_json({"schemas": [dict(zip(keys, row, strict=True)) for row in rows]})
        return ExitCode.OK
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("NAME", "TYPE", "DESCRIPTION"):
        table.add_column(heading)
    for name, const, description in rows:
        table.add_row(Text(name, style="bold"), const, Text(description, style="dim"))
    console().print(table)
    return ExitCode.OK


def show_schema(name: str, version: str) -> ExitCode:
    """Write one schema as it is in its file."""
    schemas = _schemas(version)
    wanted = name.removesuffix(".json").removeprefix("dev.dragoman.")
    if wanted not in schemas:
        raise NotConfigured(f"there is no schema {name!r}; there are: {', '.join(schemas)}")
    path = schema_directory(version) / f"{wanted}.json"
    write_text(path.read_text(encoding="utf-8"))
    return ExitCode.OK


def compare_schemas(old: str, new: str, settings: Settings) -> ExitCode:
    """Compare two versions; ``INVALID`` when the newer one accepts less."""
    try:
        differences = compare(_folder(old), _folder(new))
    except ValueError as error:
        raise NotConfigured(str(error)) from None
    breaking = [difference for difference in differences if difference.breaks]
    widening = [difference for difference in differences if difference.effect == "widens"]
    if settings.json:
        verdict = "narrows" if breaking else "widens" if widening else "same"
        write_json({"verdict": verdict, "differences": differences})
    else:
        for difference in differences:
            console().print(_line(difference), soft_wrap=True)
        console().print(_verdict(breaking, widening), style="red" if breaking else "green")
    return ExitCode.INVALID if breaking else ExitCode.OK


def _schemas(version: str) -> dict[str, Any]:
    folder = schema_directory(version)
    if not folder.is_dir():
        raise NotConfigured(f"there is no version {version!r} of the schemas")
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "$schema" in content:
            found[path.name.removesuffix(".json")] = content
    return found


def _folder(name: str) -> Path:
    """A folder by its path, or a version by its name."""
    path = Path(name)
    if path.is_dir():
        return path
    version = schema_directory(name)
    if "/" not in name and version.is_dir():
        return version
    raise NotConfigured(f"{name} is neither a folder nor a version of the schemas")


def _line(difference: Difference) -> Text:
    line = Text(f"{difference.effect:<8} ", style=STYLES[difference.effect])
    line.append(f"{difference.file}{difference.pointer}", style="bold not dim")
    return line.append(f"  {difference.message}", style="not bold")


def _verdict(breaking: list[Difference], widening: list[Difference]) -> str:
    if breaking:
        return (
            f"{plural(len(breaking), 'change')} may refuse what was accepted: a new major version"
        )
    if widening:
        return f"{plural(len(widening), 'change')} accept more, none less: a new minor version"
    return "the same documents are accepted"
