"""What is wrong with a configuration, said so that it can be put right: file, table, key, remedy.

The value of a mistaken key is never shown: it may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec

from dragoman_agents.configuration import ensembles
from dragoman_agents.configuration.agreements import AgreementTable
from dragoman_agents.configuration.durability import DurableTable
from dragoman_agents.configuration.tables import (
    AgentDeclaration,
    BusSettings,
    Configuration,
    SkillDeclaration,
)
from dragoman_agents.models.settings import ListedPrice, ModelSettings, PriceSettings
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["HINTS", "ConfigurationError", "explain"]

TABLES: Mapping[str, type[msgspec.Struct]] = {
    "": Configuration,
    "bus": BusSettings,
    "durable": DurableTable,
    "prices": ListedPrice,
    "models": ModelSettings,
    "models.price": PriceSettings,
    "agents": AgentDeclaration,
    "agents.model": ModelSettings,
    "agents.model.price": PriceSettings,
    "agents.skills": SkillDeclaration,
    "agents.ensemble": ensembles.SharedTable,
    "agents.ensemble.members": ensembles.MemberTable,
    "agents.ensemble.stages": ensembles.StageTable,
    "agents.ensemble.stages.members": ensembles.MemberTable,
    "agents.ensemble.checkers": ensembles.MemberTable,
    "agents.ensemble.judges": ensembles.MemberTable,
}

ENSEMBLES: Mapping[str, type[msgspec.Struct]] = {
    str(table.__struct_config__.tag): table for table in get_args(ensembles.EnsembleTable)
}
"""The tables of ``[agents.ensemble]`` by their kind."""

AGREEMENTS: Mapping[str, type[msgspec.Struct]] = {
    str(table.__struct_config__.tag): table
    for table in get_args(AgreementTable)
    if isinstance(table, type) and issubclass(table, msgspec.Struct)
}

TAGGED: Mapping[str, tuple[str, Mapping[str, type[msgspec.Struct]]]] = {
    "agents.ensemble": ("kind", ENSEMBLES),
    "agents.ensemble.agreement": ("by", AGREEMENTS),
}
"""Tables of several kinds: the key that tells them apart, and what they are."""

HINTS: Mapping[str, str] = {
    "ack_wait_seconds": "ack_wait_seconds = 30 (three at least)",
    "agents": '[[agents]] with module = "examples/agents.py:agent"',
    "api_key_env": 'api_key_env = "OPENAI_API_KEY" (the name of a variable, never the key itself)',
    "api_key_file": 'api_key_file = "/run/secrets/model_key"',
    "as_of": "as_of = 2026-11-01 (the day the price was read)",
    "bus": '[bus] with server = "nats://127.0.0.1:4222"',
    "base_url": 'base_url = "http://127.0.0.1:11434/v1"',
    "cancel_grace_seconds": "cancel_grace_seconds = 10",
    "concurrency": "concurrency = 4",
    "currency": 'currency = "EUR" (three capital letters)',
    "data_directory": 'data_directory = "data"',
    "description": 'description = "Summarizes text"',
    "durable": "[durable] with max_queued_tasks = 100000",
    "embedded": "embedded = true",
    "agreement": 'agreement = "normalized" or agreement = { by = "field", path = "label" }',
    "check": 'check = "review" (the skill of whoever checks)',
    "compare": 'compare = "compare" (the skill of the judges)',
    "ensemble": '[agents.ensemble] with kind = "consensus", skill and members',
    "fallback": 'fallback = "same_price" (or "none", "free_only", "any")',
    "learned": 'learned = "panel.json" (`dragoman learn` writes it)',
    "kind": f"kind = {' or '.join(f'{kind!r}' for kind in ENSEMBLES)}".replace("'", '"'),
    "agent": 'agent = "rules" (the name of an agent)',
    "by": 'by = "field" (or "number", "rounding", "judge", "embedding")',
    "path": 'path = "verdict.label"',
    "skill": 'skill = "classify" (the skill of the members)',
    "step": "step = 0.01",
    "members": 'members = ["gpt", "llama"] (names of agents)',
    "minimum_confidence": "minimum_confidence = 0.8",
    "minimum_share": "minimum_share = 0.5",
    "quorum": "quorum = 2",
    "stages": '[[agents.ensemble.stages]] with members = ["small"]',
    "id": 'id = "summarize" (lower-case letters, digits, - and _)',
    "input_per_million_tokens": "input_per_million_tokens = 0.25",
    "max_age_seconds": "max_age_seconds = 604800 (seven days)",
    "max_artifact_bytes": "max_artifact_bytes = 1073741824 (1 GiB; 1 MiB at least)",
    "max_log_bytes": "max_log_bytes = 1073741824 (1 GiB; 1 MiB at least)",
    "max_output_tokens": "max_output_tokens = 1024",
    "max_queued_bytes": "max_queued_bytes = 268435456 (256 MiB; 1 MiB at least)",
    "max_queued_tasks": "max_queued_tasks = 100000",
    "model": 'model = "the id that the server lists"',
    "module": 'module = "examples/agents.py:agent" or module = "package.module:agent"',
    "name": 'name = "summarizer" (lower-case letters, digits, - and _)',
    "output_per_million_tokens": "output_per_million_tokens = 1.0",
    "port": "port = 4222",
    "prompt": 'prompt = "Summarize: {{text}}"',
    "provider": 'provider = "openai" (`dragoman models` lists them)',
    "replicas": "replicas = 2",
    "sync_interval_seconds": "sync_interval_seconds = 120 (0: each message at once)",
    "server": 'server = "nats://127.0.0.1:4222"',
    "skills": "[[agents.skills]] with id, description and prompt",
    "supervise": "supervise = false",
    "tags": 'tags = ["text"]',
    "temperature": "temperature = 0.2",
    "timeout_seconds": "timeout_seconds = 60",
}
"""What to write, by key."""

MISTAKEN_KEYS: Mapping[str, str] = {
    "api_key": "api_key_env",
    "key": "api_key_env",
    "token": "api_key_env",
    "system": "prompt",
    "system_prompt": "prompt",
    "url": "base_url",
}

LOCATED = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]+)\]|\[[^\]]*\]")
FIELD = re.compile(r"^Object (contains unknown|missing required) field `([^`]*)`$")


class ConfigurationError(NotConfigured):
    """The configuration cannot be used. ``origin``, ``table`` and ``key`` say where.

    Args:
        message: What is wrong and what to write.
        origin: The file, variable or flag at fault.
        table: The table, as people write it; empty outside of files.
        key: The key in it, when it is one.
    """

    def __init__(self, message: str, *, origin: str, table: str = "", key: str = "") -> None:
        where = ", ".join(part for part in (origin, table, key) if part)
        super().__init__(f"{where}: {message}")
        self.origin = origin
        self.table = table
        self.key = key


def explain(
    error: msgspec.ValidationError,
    *,
    origin: str,
    data: Mapping[str, Any],
    place: Sequence[str] = (),
) -> ConfigurationError:
    """Turn what msgspec found in ``data`` into words for whoever wrote the file.

    Args:
        error: What msgspec raised.
        origin: The file.
        data: The whole file.
        place: Where in it the value was that msgspec saw; default: it saw all of it.
    """
    located = LOCATED.match(str(error))
    assert located is not None
    what = located["what"]
    steps: list[str | int] = [*place, *_steps(located["path"] or "")]
    field = FIELD.match(what)
    if field is not None:
        key = field[2]
        described = _describe(steps, data)
        if field[1] == "contains unknown":
            known = _keys_of(steps, data)
            return ConfigurationError(_unknown(key, known), origin=origin, table=described, key=key)
        return ConfigurationError(
            f"is missing; write {_hint(key)}", origin=origin, table=described, key=key
        )
    if _named(steps) in TABLES and not what.startswith("Expected"):
        return ConfigurationError(what, origin=origin, table=_describe(steps, data))
    inside, key = _split_key(steps)
    message = f"{_plain(what)}; write {_hint(key)}" if key else _plain(what)
    return ConfigurationError(message, origin=origin, table=_describe(inside, data), key=key)


def _steps(path: str) -> list[str | int]:
    return [name or (int(index) if index else "[...]") for name, index in STEP.findall(path)]


def _named(steps: list[str | int]) -> str:
    """The kind of table: the names of tables within ``[models]`` are the user's own."""
    kept = [steps[0], *steps[2:]] if len(steps) > 1 and steps[0] == "models" else steps
    return ".".join(step for step in kept if isinstance(step, str))


def _split_key(steps: list[str | int]) -> tuple[list[str | int], str]:
    """The longest beginning that is a table, and the key that follows it."""
    for end in range(len(steps), -1, -1):
        rest = steps[end:]
        if rest and isinstance(rest[0], str) and _named(steps[:end]) in TABLES:
            return steps[:end], rest[0]
    return steps, ""


def _describe(steps: list[str | int], data: Mapping[str, Any]) -> str:
    """``[agents.model] of [[agents]] number 2 ("summarizer")`` for ``agents[1].model``."""
    name, owners = "", ""
    here: Any = data
    for position, step in enumerate(steps):
        here = _child(here, step)
        if isinstance(step, str):
            name = f"{name}.{step}" if name else step
            continue
        label = here.get("name") or here.get("id") if isinstance(here, dict) else None
        called = f' ("{label}")' if isinstance(label, str) else ""
        text = f"[[{name}]] number {step + 1}{called}"
        last = position == len(steps) - 1
        owners = f"{text}{f' of {owners}' if owners else ''}"
        if last:
            return owners
    if not name:
        return ""
    return f"[{name}]{f' of {owners}' if owners else ''}"


def _child(value: Any, step: str | int) -> Any:
    try:
        return value[step]
    except (KeyError, IndexError, TypeError):
        return None


def _keys_of(steps: list[str | int], data: Mapping[str, Any]) -> tuple[str, ...]:
    """What may stand in a table; in that of an ensemble it depends on its kind."""
    name = _named(steps)
    if name not in TAGGED:
        return TABLES[name].__struct_fields__ if name in TABLES else ()
    here: Any = data
    for step in steps:
        here = _child(here, step)
    tag, tables = TAGGED[name]
    said = here.get(tag) if isinstance(here, dict) else None
    table = tables.get(str(said))
    return (tag,) if table is None else (tag, *table.__struct_fields__)


def _unknown(key: str, known: tuple[str, ...]) -> str:
    close = MISTAKEN_KEYS.get(key)
    if close not in known:
        close = next(iter(difflib.get_close_matches(key, known, n=1)), None)
    if close is not None:
        return f"is not known here; did you mean {close}? Write {_hint(close)}"
    return f"is not known here; known are: {', '.join(known)}"


def _hint(key: str) -> str:
    return HINTS.get(key, f"{key} = ...")


def _plain(what: str) -> str:
    """msgspec's words without type jargon."""
    if "matching regex" in what:
        return "is not spelled as it must be"
    if what.startswith("Invalid enum value"):
        return "is none of the known values"
    words = {"array": "a list", "object": "a table", "str": "text", "int": "a whole number"}
    words |= {"float": "a number", "bool": "true or false", "null": "nothing", "date": "a date"}
    plain = re.sub(r"`([a-z]+)`", lambda word: words.get(word[1], word[1]), what)
    plain = re.sub(r"`([^`]*)`", _alternatives(words), plain)
    return plain.replace("Expected", "must be").replace(" | nothing", "")


def _alternatives(words: Mapping[str, str]) -> Any:
    def spelled(match: re.Match[str]) -> str:
        return " or ".join(
            words.get(word.strip(), word.strip())
            for word in match[1].split("|")
            if word.strip() != "null"
        )

    return spelled
