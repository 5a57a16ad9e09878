"""The specification's examples are valid messages, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dragoman_bus.protocol.codec import decode, encode
from dragoman_bus.validation import validate_document
from tests.conformance.requirements_file import SPEC

PAGES = sorted(SPEC.rglob("*.md"))
EXAMPLES = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```json\n(.+?)^```$", page.read_text(encoding="utf-8"), re.M | re.S), 1
    )
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_valid_message_without_unknown_members(example: str) -> None:
    assert validate_document(example) == []
    message = decode(example.encode())
    assert re.sub(r"\s", "", example).count(":") == encode(message).decode().count(":")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []
