"""The error codes as data: ``errors.json`` read once, with the defaults of every code.

Spec: spec/errors.md.
"""

from __future__ import annotations

import functools

import msgspec

from dragoman_bus.schema_files import schema_directory

__all__ = ["ErrorDefinition", "defaults_of", "error_definitions"]


class ErrorDefinition(msgspec.Struct, frozen=True):
    """One row of ``errors.json``: what a code means, and how other protocols say it."""

    code: str
    meaning: str
    retryable: bool
    action: str
    a2a: str | None = None
    http: int = 500
    jsonrpc: int = -32603


class _Registry(msgspec.Struct):
    errors: list[ErrorDefinition]


@functools.cache
def error_definitions() -> dict[str, ErrorDefinition]:
    """All known codes, by code, in the order of the file."""
    content = (schema_directory() / "errors.json").read_bytes()
    return {row.code: row for row in msgspec.json.decode(content, type=_Registry).errors}


def defaults_of(code: str) -> ErrorDefinition:
    """The definition of ``code``; an unknown code counts as not retryable (spec/errors.md)."""
    known = error_definitions().get(code)
    if known is not None:
        return known
    return ErrorDefinition(code=code, meaning="", retryable=False, action="")
