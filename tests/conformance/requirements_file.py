"""Reads the rules out of ``spec/`` and what ``requirements.toml`` says of them."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
REQUIREMENTS = Path(__file__).with_name("requirements.toml")

RULE = re.compile(r"^- \*\*\[([A-Z0-9]+-[1-9][0-9]*)\]\*\* (.+)$", re.MULTILINE)
KEYWORD = re.compile(r"\b(MUST NOT|MUST|SHOULD NOT|SHOULD|MAY)\b")
MENTION = re.compile(r"\b([A-Z][A-Z0-9]+-[1-9][0-9]*)\b")


class Rule(NamedTuple):
    """One rule of the specification."""

    identifier: str
    sentence: str
    page: str

    @property
    def keywords(self) -> list[str]:
        """The BCP 14 key words of the sentence, without what stands in backquotes."""
        return KEYWORD.findall(re.sub(r"`[^`]*`", "", self.sentence))


def pages() -> list[Path]:
    """The normative pages."""
    return sorted(SPEC.glob("*.md"))


def rules() -> list[Rule]:
    """All rules, in the order of the pages; the same identifier may come twice by mistake."""
    return [
        Rule(identifier, sentence, page.name)
        for page in pages()
        for identifier, sentence in RULE.findall(page.read_text(encoding="utf-8"))
    ]


def requirements() -> dict[str, dict[str, Any]]:
    """The entries of ``requirements.toml`` by identifier."""
    return tomllib.loads(REQUIREMENTS.read_text(encoding="utf-8"))


@functools.cache
def defined_tests(path: str) -> frozenset[str]:
    """The tests that a file defines, as ``name`` or ``Class::name``; empty without the file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, functions):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {
                f"{node.name}::{part.name}" for part in node.body if isinstance(part, functions)
            }
    return frozenset(name for name in names if name.rpartition("::")[2].startswith("test_"))
