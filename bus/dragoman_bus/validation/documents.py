"""The reference judgement of a message: strict JSON, then the schema of its ``type``.

Spec: spec/model.md, envelope. Nothing is ever fetched; all schemas lie beside the code.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry, Resource

from dragoman_bus.protocol.nesting import MAXIMUM_DEPTH, is_too_deep
from dragoman_bus.protocol.versions import is_supported, is_version
from dragoman_bus.schema_files import schema_directory
from dragoman_bus.validation.values import ContractValidator, Violation, judge

__all__ = ["load_schemas", "message_types", "validate_document"]

MESSAGE_SCHEMA = "https://dragoman.dev/schemas/1.0/message.json"
BASE = "https://dragoman.dev/schemas/1.0/"
TYPE_PREFIX = "dev.dragoman."


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    # In ECMA-262 a final $ is the very end; in Python it matches before a final line feed as well.
    return re.compile(f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern)


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _expression(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


MessageValidator: Any = extend(  # type: ignore[no-untyped-call]
    ContractValidator, {"pattern": _pattern}
)

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@functools.cache
def load_schemas(version: str = "draft") -> dict[str, Any]:
    """All schemas of a version, by ``$id``."""
    schemas: dict[str, Any] = {}
    for path in sorted(schema_directory(version).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "$id" in content:
            schemas[content["$id"]] = content
    return schemas


def message_types() -> list[str]:
    """The ``type`` values that have a schema."""
    return list(load_schemas()[MESSAGE_SCHEMA]["properties"]["type"]["enum"])


def validate_document(document: bytes | str | Any) -> list[Violation]:
    """What is wrong with a message; an empty list when it is valid.

    Args:
        document: The message as bytes or text, or already decoded.
    """
    if isinstance(document, bytes | str):
        try:
            value = _parse(document)
        except (ValueError, RecursionError) as error:
            return [_whole("json", f"not a JSON document: {_words(error)}")]
    else:
        value = document
    if not isinstance(value, dict):
        return [_whole("type", "a message is a JSON object")]
    kind = value.get("type")
    version = value.get("protocolversion")
    if isinstance(version, str) and is_version(version) and not is_supported(version):
        return [
            Violation(
                "/protocolversion",
                "pattern",
                f"protocol version {version} is not supported",
                BASE + "envelope.json",
                "spec/versioning.md",
            )
        ]
    if not isinstance(kind, str) or kind not in message_types():
        return _unknown_type(value)
    return judge(_validator(kind), value)


def _unknown_type(value: dict[str, Any]) -> list[Violation]:
    if "type" not in value:
        return [_whole("required", "'type' is a required property")]
    return [
        Violation(
            "/type",
            "enum",
            f"{str(value['type'])[:128]!r} is not the type of a message",
            MESSAGE_SCHEMA,
            "spec/model.md, envelope",
        )
    ]


@functools.cache
def _validator(kind: str) -> Any:
    schemas = load_schemas()
    registry: Registry[Any] = Registry().with_resources(
        [(name, Resource.from_contents(schema)) for name, schema in schemas.items()]
    )
    schema = schemas[f"{BASE}{kind.removeprefix(TYPE_PREFIX)}.json"]
    return MessageValidator(schema, registry=registry)


def _whole(rule: str, message: str) -> Violation:
    return Violation("", rule, message, MESSAGE_SCHEMA, "spec/model.md, envelope")


def _parse(document: bytes | str) -> Any:
    # json.loads would guess UTF-16 and UTF-32 from bytes.
    text = document.decode("utf-8") if isinstance(document, bytes) else document
    if is_too_deep(text.encode("utf-8", "surrogatepass")):
        raise ValueError(f"nested more than {MAXIMUM_DEPTH} levels deep")
    value = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_float)
    if "\\u" in text and _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("a lone surrogate is not a character")
    return value


def _parse_float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:32]} is out of range")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not valid UTF-8"
    return str(error)
