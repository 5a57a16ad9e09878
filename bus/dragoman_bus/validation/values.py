"""The reference judgement of a value by a JSON Schema, told in plain words.

Spec: spec/model.md, contracts. Nothing is ever fetched: a schema that refers outside itself is
refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

import msgspec
from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

__all__ = [
    "ContractValidator",
    "Violation",
    "as_violations",
    "judge",
    "pointer",
    "validate_value",
    "violations_as_details",
]

MAXIMUM_VIOLATIONS = 100
MAXIMUM_TOLD = 20
"""An error message tells no more: whoever has twenty things to mend asks again."""

# spec/model.md: integers are written without fraction or exponent, so 1.0 is none here.
ContractValidator: Any = extend(  # type: ignore[no-untyped-call]
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


def violations_as_details(violations: list[Violation]) -> dict[str, Any]:
    """``details`` of an error object that tell what is wrong (spec/errors.md, ERR-12)."""
    listed = [
        {"path": one.path, "rule": one.rule, "message": one.message}
        for one in violations[:MAXIMUM_TOLD]
    ]
    return {"violations": listed} if listed else {}


def validate_value(schema: Any, value: Any) -> list[Violation]:
    """What is wrong with ``value`` under ``schema``; an empty list when nothing is."""
    try:
        Draft202012Validator.check_schema(schema)
        return judge(ContractValidator(schema, registry=Registry()), value)
    except SchemaError as error:
        return [Violation("", "$schema", f"the schema itself is not valid: {error.message}")]
    except Unresolvable as error:
        return [Violation("", "$ref", f"the schema refers to what is not in it: {error}")]
    except RecursionError:
        return [Violation("", "$ref", "the value or the schema is nested too deeply")]


def judge(validator: Any, value: Any) -> list[Violation]:
    """All violations that ``validator`` finds, at most MAXIMUM_VIOLATIONS, each said once."""
    return as_violations(islice(validator.iter_errors(value), MAXIMUM_VIOLATIONS), validator.schema)


def as_violations(errors: Iterable[ValidationError], schema: Any) -> list[Violation]:
    """Errors of jsonschema in our words, each said once."""
    found: dict[tuple[str, str], Violation] = {}
    for error in errors:
        violation = _violation(error, schema)
        found.setdefault((violation.path, violation.rule), violation)
    return list(found.values())


def _violation(error: ValidationError, schema: Any) -> Violation:
    known = schema if isinstance(schema, dict) else {}
    return Violation(
        pointer(error.absolute_path),
        str(error.validator),
        _sentence(error),
        str(known.get("$id", "")),
        str(known.get("$comment", "")),
    )


def _sentence(error: ValidationError) -> str:
    # A whole document inside a sentence helps nobody.
    branches = error.validator_value
    if error.validator == "oneOf" and isinstance(error.instance, dict):
        names = [str(branch.get("required", [""])[0]) for branch in cast("list[Any]", branches)]
        return f"exactly one of {', '.join(names)} must be present"
    message = error.message
    return message if len(message) <= 300 else f"…{message[-300:]}"
