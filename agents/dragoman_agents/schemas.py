"""A skill whose contract is given as JSON Schemas, not as a signature.

Spec: spec/model.md, contracts. Declared agents use this: their input is one decoded value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Raw

from dragoman_bus.protocol.a2a import Message
from dragoman_bus.protocol.contracts import input_from_message
from dragoman_bus.protocol.errors import InvalidInput, RemoteError
from dragoman_bus.validation import Violation, validate_value, violations_as_details
from dragoman_bus.validation.compiled import compile_schema

__all__ = ["Judge", "SchemaSignature", "refusal_of_input", "refusal_of_output"]

Judge = Callable[[Any, Any], list[Violation]]
"""Says what is wrong with a value under a schema."""


class SchemaSignature:
    """How to call ``function(input, ctx)`` under schemas that were given."""

    takes_context = True

    def __init__(
        self,
        function: Callable[..., Any],
        input_schema: dict[str, Any],
        output_schema: dict[str, Any],
        text_input: str | None,
        *,
        judge: Judge = validate_value,
    ) -> None:
        self.function = function
        self.input_schema = input_schema
        self.output_schema = output_schema
        self.text_input = text_input
        self.kind: Literal["async", "sync", "stream"] = _kind_of(function)
        self._judge = judge
        self._quick_input = _decoder(input_schema)
        self._quick_output = _decoder(output_schema)

    def arguments(self, message: Message, text_input: str | None) -> dict[str, Any]:
        """The argument that an A2A message brings; its text fills the member ``text_input``.

        Raises:
            InvalidInput: as ``decode``, and when the message is not one input.
        """
        return self.decode(input_from_message(message, text_input))

    def decode(self, document: Raw) -> dict[str, Any]:
        """The argument in a JSON document.

        Raises:
            InvalidInput: naming the failing paths.
        """
        value = msgspec.json.decode(document)
        if not _accepts(self._quick_input, document) and self._judge(self.input_schema, value):
            raise refusal_of_input(self.input_schema, document, "", judge=self._judge)
        return {"input": value}

    def check_output(self, value: Any) -> Any:
        """``value``, if the output schema allows it.

        Raises:
            RemoteError: ``INVALID_OUTPUT``.
        """
        if not self._is_output(value) and self._judge(self.output_schema, value):
            raise refusal_of_output(self.output_schema, value, "", judge=self._judge)
        return value

    def _is_output(self, value: Any) -> bool:
        """Whether a quick judge is sure that it fits."""
        try:
            return _accepts(self._quick_output, Raw(msgspec.json.encode(value)))
        except TypeError:
            return False


def refusal_of_input(
    schema: dict[str, Any], document: Raw, otherwise: str, *, judge: Judge = validate_value
) -> InvalidInput:
    """The error that tells what is wrong with an input, for people and in ``details``.

    ``otherwise`` is said when the schema finds nothing wrong, since a type may be narrower.
    """
    try:
        violations = judge(schema, msgspec.json.decode(document))
    except (msgspec.DecodeError, RecursionError):
        violations = []
    return InvalidInput(
        f"the input does not fit: {_sentence(violations) or otherwise}",
        details=violations_as_details(violations),
    )


def refusal_of_output(
    schema: dict[str, Any], value: Any, otherwise: str, *, judge: Judge = validate_value
) -> RemoteError:
    """The error that tells how an output breaks the skill's contract, as ``refusal_of_input``."""
    violations = judge(schema, value)
    return RemoteError(
        f"the skill's output breaks its contract: {_sentence(violations) or otherwise}",
        code="INVALID_OUTPUT",
        side_effects="possible",
        details=violations_as_details(violations),
    )


def _decoder(schema: dict[str, Any]) -> msgspec.json.Decoder[Any] | None:
    """A quick first judge of valid documents, where the schema compiles to a type."""
    compiled = compile_schema(schema)
    return None if compiled is None else msgspec.json.Decoder(compiled)


def _accepts(decoder: msgspec.json.Decoder[Any] | None, document: Raw) -> bool:
    """Whether it is valid for sure; otherwise the reference validator decides."""
    if decoder is None:
        return False
    try:
        decoder.decode(document)
    except msgspec.DecodeError:
        return False
    return True


def _kind_of(function: Callable[..., Any]) -> Literal["async", "sync", "stream"]:
    if inspect.isasyncgenfunction(function):
        return "stream"
    return "async" if inspect.iscoroutinefunction(function) else "sync"


def _sentence(violations: list[Any]) -> str:
    shown = violations[:3]
    return "; ".join(f"{violation.path or '/'}: {violation.message}" for violation in shown)
