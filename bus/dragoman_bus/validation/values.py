"""The reference judgement of a value by a skill's own schema.

Spec: spec/model.md, contracts. Nothing is ever fetched: a schema that refers outside itself is
refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

__all__ = ["Violation", "validate_value"]

MAXIMUM_VIOLATIONS = 100

# spec/model.md: integers are written without fraction or exponent, so 1.0 is none here.
_ContractValidator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, item: isinstance(item, int) and not isinstance(item, bool)
    ),
)


class Violation(msgspec.Struct, frozen=True):
    """One thing that is wrong with a document.

    Attributes:
        path: JSON pointer to the offending value; empty for the document itself.
        rule: The schema keyword that was violated.
        message: What is wrong, in words.
        schema: ``$id`` of the schema that says so; empty for a contract's own schema.
        section: The section of the spec behind the rule; empty when there is none.
    """

    path: str
    rule: str
    message: str
    schema: str = ""
    section: str = ""


def pointer(path: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def validate_value(schema: Any, value: Any) -> list[Violation]:
    """What is wrong with ``value`` under ``schema``; an empty list when nothing is."""
    try:
        Draft202012Validator.check_schema(schema)
        errors = list(_some(_ContractValidator(schema, registry=Registry()).iter_errors(value)))
    except SchemaError as error:
        return [Violation("", "$schema", f"the schema itself is not valid: {error.message}")]
    except Unresolvable as error:
        return [Violation("", "$ref", f"the schema refers to what is not in it: {error}")]
    return [
        Violation(pointer(error.absolute_path), str(error.validator), error.message[:512])
        for error in errors
    ]


def _some(errors: Iterable[ValidationError]) -> Iterable[ValidationError]:
    for count, error in enumerate(errors):
        if count >= MAXIMUM_VIOLATIONS:
            return
        yield error
