"""Contracts checked at the caller's end, before input leaves and after output arrives.

Spec: spec/model.md, contracts. The agent checks too; here bad input costs no round trip, and an
agent that breaks its own contract is found out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman_bus.client.result import Result
from dragoman_bus.protocol.a2a import Message
from dragoman_bus.protocol.contracts import input_from_message, is_plain_text
from dragoman_bus.protocol.errors import InvalidInput, TaskFailed
from dragoman_bus.protocol.payloads import Contract
from dragoman_bus.validation import Violation
from dragoman_bus.validation.compiled import compile_schema
from dragoman_bus.validation.foreign import violations_of_foreign

__all__ = ["check_input", "check_output"]


class _Checker:
    """Judges documents by one schema: quickly when they are valid, exactly when not."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.takes_any_text = _is_any_text(schema)
        self._free_member = _only_free_text(schema)
        compiled = compile_schema(schema)
        self._decoder = None if compiled is None else msgspec.json.Decoder(compiled)

    def violations(self, document: bytes | msgspec.Raw) -> list[Violation]:
        """What is wrong with a JSON document; nothing when it is valid."""
        if self._decoder is not None:
            try:
                self._decoder.decode(document)
            except msgspec.DecodeError:
                pass  # the reference validator decides within bounds, and says why
            else:
                return []
        return violations_of_foreign(self.schema, msgspec.json.decode(document))

    def takes_text(self, member: str | None) -> bool:
        """Whether any text is a valid input as that one member: nothing is left to judge."""
        return member is not None and member == self._free_member


def check_input(contract: Contract | None, message: Message) -> None:
    """Refuse input that the contract does not allow.

    Raises:
        InvalidInput: with the failing paths.
    """
    if contract is None:
        return
    text_input = None if isinstance(contract.text_input, msgspec.UnsetType) else contract.text_input
    checker = _checker(contract.input_schema)
    if checker.takes_text(text_input) and is_plain_text(message.parts):
        return
    violations = checker.violations(input_from_message(message, text_input))
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
    checker, output = _checker(contract.output_schema), result.output
    if checker.takes_any_text and output is not None and is_plain_text(output.parts):
        return
    violations = checker.violations(msgspec.json.encode(result.value))
    if violations:
        raise TaskFailed(
            f"the output of skill {contract.skill!r} breaks its contract: {_sentence(violations)}",
            code="INVALID_OUTPUT",
            side_effects="possible",
            details={"violations": [_entry(violation) for violation in violations]},
            task_id=result.task_id,
        )


_checkers: dict[int, _Checker] = {}
_MAXIMUM_CHECKERS = 1024


def _checker(schema: dict[str, Any]) -> _Checker:
    """The checker of a schema, found by identity: to hash its content would cost too much.

    A checker holds its schema, so that its id is not given to another object.
    """
    checker = _checkers.get(id(schema))
    if checker is None:
        if len(_checkers) >= _MAXIMUM_CHECKERS:
            _checkers.clear()
        checker = _checkers[id(schema)] = _Checker(schema)
    return checker


def _is_any_text(schema: Any) -> bool:
    return bool(schema == {"type": "string"})


def _only_free_text(schema: dict[str, Any]) -> str | None:
    """The member that may be any text, of a schema that says nothing else about its object."""
    properties = schema.get("properties")
    told = {"type", "properties", "required", "additionalProperties", "title"}
    if schema.get("type") != "object" or not schema.keys() <= told or len(properties or ()) != 1:
        return None
    [(member, described)] = schema["properties"].items()
    free = _is_any_text(described) and schema.get("required", []) in ([], [member])
    return member if free else None


def _sentence(violations: list[Violation]) -> str:
    shown = violations[:3]
    return "; ".join(f"{violation.path or '/'}: {violation.message}" for violation in shown)


def _entry(violation: Violation) -> dict[str, str]:
    return {"path": violation.path, "rule": violation.rule, "message": violation.message}
