"""Contracts checked at the caller's end, before input leaves and after output arrives.

Spec: spec/model.md, contracts. The agent checks too; here bad input costs no round trip, and an
agent that breaks its own contract is found out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dragoman_bus.client.result import Result
from dragoman_bus.protocol.a2a import Message
from dragoman_bus.protocol.contracts import input_from_message
from dragoman_bus.protocol.errors import InvalidInput, TaskFailed
from dragoman_bus.protocol.payloads import Contract
from dragoman_bus.validation import validate_value

__all__ = ["check_input", "check_output"]


def check_input(contract: Contract | None, message: Message) -> None:
    """Refuse input that the contract does not allow.

    Raises:
        InvalidInput: with the failing paths.
    """
    if contract is None:
        return
    text_input = None if isinstance(contract.text_input, msgspec.UnsetType) else contract.text_input
    value = msgspec.json.decode(input_from_message(message, text_input))
    violations = validate_value(contract.input_schema, value)
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
    violations = validate_value(contract.output_schema, result.value)
    if violations:
        raise TaskFailed(
            f"the output of skill {contract.skill!r} breaks its contract: {_sentence(violations)}",
            code="INVALID_OUTPUT",
            side_effects="possible",
            details={"violations": [_entry(violation) for violation in violations]},
            task_id=result.task_id,
        )


def _sentence(violations: list[Any]) -> str:
    shown = violations[:3]
    return "; ".join(f"{violation.path or '/'}: {violation.message}" for violation in shown)


def _entry(violation: Any) -> dict[str, str]:
    return {"path": violation.path, "rule": violation.rule, "message": violation.message}
