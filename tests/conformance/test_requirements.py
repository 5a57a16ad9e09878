"""Specification, ``requirements.toml`` and tests say the same: nothing missing, nothing stale."""

from __future__ import annotations

from collections import Counter

from tests.conformance.requirements_file import (
    KEYWORD,
    MENTION,
    RULE,
    defined_tests,
    pages,
    requirements,
    rules,
)

LEVELS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"}
ROLES = {"caller", "agent", "router", "operator", "supervisor", "every"}
MEMBERS = {"level", "role", "tests", "planned"}


def test_every_rule_is_stated_once() -> None:
    counts = Counter(rule.identifier for rule in rules())
    assert [identifier for identifier, count in counts.items() if count > 1] == []


def test_every_rule_is_one_sentence_with_one_key_word() -> None:
    wrong = [
        rule.identifier
        for rule in rules()
        if len(rule.keywords) != 1
        or not rule.sentence.endswith(".")
        or ". " in rule.sentence.removesuffix(".")
    ]
    assert wrong == []


def test_key_words_stand_in_rules_only() -> None:
    found = {}
    for page in pages():
        # These pages speak about the words themselves.
        if page.name in ("README.md", "conformance.md"):
            continue
        prose = RULE.sub("", page.read_text(encoding="utf-8"))
        if words := KEYWORD.findall(prose):
            found[page.name] = words
    assert found == {}


def test_every_rule_that_is_mentioned_exists() -> None:
    known = {rule.identifier for rule in rules()}
    areas = {identifier.partition("-")[0] for identifier in known}
    mentioned = {
        mention
        for page in pages()
        for mention in MENTION.findall(page.read_text(encoding="utf-8"))
        if mention.partition("-")[0] in areas
    }
    assert mentioned - known == set()


def test_every_rule_has_an_entry() -> None:
    assert {rule.identifier for rule in rules()} - requirements().keys() == set()


def test_every_entry_has_a_rule() -> None:
    assert requirements().keys() - {rule.identifier for rule in rules()} == set()


def test_levels_are_those_of_the_sentences() -> None:
    entries = requirements()
    wrong = {
        rule.identifier: (entries[rule.identifier].get("level"), rule.keywords)
        for rule in rules()
        if rule.identifier in entries and [entries[rule.identifier].get("level")] != rule.keywords
    }
    assert wrong == {}


def test_entries_are_well_formed() -> None:
    wrong = {
        identifier: entry
        for identifier, entry in requirements().items()
        if not entry.keys() <= MEMBERS
        or entry.get("level") not in LEVELS
        or not entry.get("role")
        or not set(entry["role"]) <= ROLES
    }
    assert wrong == {}


def test_an_entry_names_tests_or_says_why_there_is_none() -> None:
    wrong = [
        identifier
        for identifier, entry in requirements().items()
        if ("planned" in entry and not str(entry["planned"]).strip())
        or ("tests" in entry and not entry["tests"])
        or not ("tests" in entry or "planned" in entry)
    ]
    assert wrong == []


def test_every_test_that_is_named_exists() -> None:
    missing = [
        f"{identifier}: {name}"
        for identifier, entry in requirements().items()
        for name in entry.get("tests", ())
        if name.partition("::")[2] not in defined_tests(name.partition("::")[0])
    ]
    assert missing == []
