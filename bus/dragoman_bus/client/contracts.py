"""Contracts checked at the caller's end, before input leaves and after output arrives.

Spec: spec/model.md, contracts. The agent checks too; here bad input costs no round trip, and an
agent that breaks its own contract is found out.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from dragoman_bus.client.result import Result
from dragoman_bus.protocol.a2a import Message
from dragoman_bus.protocol.contracts import input_from_message
from dragoman_bus.protocol.errors import InvalidInput, TaskFailed
from dragoman_bus.protocol.payloads import Contract
from dragoman_bus.validation import Violation, validate_value
from dragoman_bus.validation.compiled import compile_schema

__all__ = ["check_input", "check_output"]


class _Checker:
    """Judges documents by one schema: quickly when they are valid, exactly when not."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._takes_any_text = schema == {"type": "string"}
        compiled = compile_schema(schema)
        self._decoder = None if compiled is None else msgspec.json.Decoder(compiled)

    def violations(self, document: bytes | msgspec.Raw) -> list[Violation]:
        """What is wrong with a JSON document; nothing when it is valid."""
        if self._decoder is not None:
            try:
                self._decoder.decode(document)
            except msgspec.DecodeError:
                pass  # the reference validator decides, and says why
            else:
                return []
        return validate_value(self._schema, msgspec.json.decode(document))

    def violations_of_value(self, value: Any) -> list[Violation]:
        """The same for a decoded value."""
        if self._takes_any_text and isinstance(value, str):
            return []
        return self.violations(msgspec.json.encode(value))


def check_input(contract: Contract | None, message: Message) -> None:
    """Refuse input that the contract does not allow.

    Raises:
        InvalidInput: with the failing paths.
    """
    if contract is None:
        return
    text_input = None if isinstance(contract.text_input, msgspec.UnsetType) else contract.text_input
    document = input_from_message(message, text_input)
    violations = _checker(_Key(contract.input_schema)).violations(document)
    if violations:
        raise InvalidInput(
            f"the input does not fit skill {contract.skill!r}: {_sentence(violations)}",
            details={"violations": [_entry(violation) for violation in violations]},
        )


def check_output(contract: Contract | None, result: Result) -> None:
    """Refuse output that the contract does not allow.

    Raises:
        TaskFailed: ``INVALID_OUTPUT`` with the failing paths.
    """
    if contract is None:
        return
    violations = _checker(_Key(contract.output_schema)).violations_of_value(result.value)
    if violations:
        raise TaskFailed(
            f"the output of skill {contract.skill!r} breaks its contract: {_sentence(violations)}",
            code="INVALID_OUTPUT",
            side_effects="possible",
            details={"violations": [_entry(violation) for violation in violations]},
            task_id=result.task_id,
        )


class _Key:
    """A schema as a key of a cache, equal by identity: to hash its content would cost too much."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.schema is other.schema


@functools.lru_cache(maxsize=1024)
def _checker(key: _Key) -> _Checker:
    # The cache holds the key, hence the schema: its id cannot be given to another object.
    return _Checker(key.schema)


def _sentence(violations: list[Violation]) -> str:
    shown = violations[:3]
    return "; ".join(f"{violation.path or '/'}: {violation.message}" for violation in shown)


def _entry(violation: Violation) -> dict[str, str]:
    return {"path": violation.path, "rule": violation.rule, "message": violation.message}
