"""Compatibility of two versions of the schemas: what is accepted more, what less.

Spec: spec/versioning.md. A change that narrows breaks senders and needs a new major version; one
that widens is a minor version. What cannot be judged counts as narrowing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

__all__ = ["Difference", "compare", "compare_schemas"]

Effect = Literal["narrows", "widens", "neutral", "unclear"]

_ANNOTATIONS = frozenset({"$comment", "default", "deprecated", "description", "examples", "title"})
_UPPER = frozenset({"maxItems", "maxLength", "maximum", "exclusiveMaximum", "maxProperties"})
_LOWER = frozenset({"minItems", "minLength", "minimum", "exclusiveMinimum", "minProperties"})
_SCHEMAS_BY_NAME = frozenset({"properties", "$defs", "patternProperties"})
_SCHEMAS = frozenset({"items", "additionalProperties", "not", "if", "then", "else"})


class Difference(msgspec.Struct, frozen=True):
    """One change: where it is, what it does to the set of accepted documents, and why."""

    file: str
    pointer: str
    effect: Effect
    message: str

    @property
    def breaks(self) -> bool:
        """Whether a document that was accepted may be refused now."""
        return self.effect in ("narrows", "unclear")


def compare(old: Path, new: Path) -> list[Difference]:
    """The differences between two folders of schemas.

    Raises:
        ValueError: a folder has no schemas, or a file is not JSON.
    """
    before, after = _read(old), _read(new)
    differences: list[Difference] = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            differences.append(Difference(name, "", "narrows", "the schema was removed"))
        elif name not in before:
            differences.append(Difference(name, "", "widens", "the schema was added"))
        else:
            differences.extend(compare_schemas(before[name], after[name], file=name))
    return differences


def compare_schemas(old: Any, new: Any, *, file: str = "", pointer: str = "") -> list[Difference]:
    """The differences between two schemas; references are compared as names."""
    return list(_compare(old, new, file, pointer))


def _read(folder: Path) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from None
        if "$schema" in content:
            schemas[path.name] = content
    if not schemas:
        raise ValueError(f"{folder} holds no JSON Schema")
    return schemas


def _compare(old: Any, new: Any, file: str, pointer: str) -> Iterator[Difference]:
    if old == new:
        return
    if not isinstance(old, dict) or not isinstance(new, dict):
        yield _whole(old, new, file, pointer)
        return
    for keyword in sorted(old.keys() | new.keys()):
        before, after = old.get(keyword), new.get(keyword)
        if before != after:
            yield from _keyword(keyword, before, after, file, f"{pointer}/{keyword}")


def _whole(old: Any, new: Any, file: str, pointer: str) -> Difference:
    if new is True or new == {}:
        return Difference(file, pointer, "widens", "anything is accepted now")
    if new is False or old is True or old == {}:
        return Difference(file, pointer, "narrows", "what was free is restricted now")
    return Difference(file, pointer, "unclear", "the schema was replaced")


def _keyword(
    keyword: str, before: Any, after: Any, file: str, pointer: str
) -> Iterator[Difference]:
    if keyword in _ANNOTATIONS or keyword in ("$id", "$schema"):
        yield Difference(file, pointer, "neutral", f"{keyword} changed")
    elif keyword in _SCHEMAS_BY_NAME:
        yield from _members(before or {}, after or {}, file, pointer, keyword)
    elif keyword in _SCHEMAS and before is not None and after is not None and keyword != "not":
        yield from _compare(before, after, file, pointer)
    elif keyword in ("allOf", "anyOf", "oneOf") and _same_length(before, after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _compare(one, other, file, f"{pointer}/{index}")
    else:
        judge = _JUDGES.get(keyword, _appeared_or_changed)
        effect = judge(before, after)
        yield Difference(file, pointer, effect, _say(keyword, before, after))


def _members(
    before: dict[str, Any], after: dict[str, Any], file: str, pointer: str, keyword: str
) -> Iterator[Difference]:
    for name in sorted(before.keys() | after.keys()):
        where = f"{pointer}/{name}"
        if name in before and name in after:
            yield from _compare(before[name], after[name], file, where)
        elif keyword == "$defs":
            verb = "added" if name in after else "removed"
            yield Difference(file, where, "neutral", f"the definition was {verb}")
        elif name in after:
            # Documents that happened to carry the member may not fit its new schema.
            yield Difference(file, where, "neutral", "an optional member got a schema")
        else:
            yield Difference(file, where, "widens", "the member is free now")


def _same_length(before: Any, after: Any) -> bool:
    return isinstance(before, list) and isinstance(after, list) and len(before) == len(after)


def _say(keyword: str, before: Any, after: Any) -> str:
    if before is None:
        return f"{keyword} {json.dumps(after)[:80]} was added"
    if after is None:
        return f"{keyword} {json.dumps(before)[:80]} was removed"
    return f"{keyword} went from {json.dumps(before)[:80]} to {json.dumps(after)[:80]}"


def _appeared_or_changed(before: Any, after: Any) -> Effect:
    if before is None:
        return "narrows"
    return "widens" if after is None else "unclear"


def _upper(before: Any, after: Any) -> Effect:
    if before is None or after is None:
        return _appeared_or_changed(before, after)
    return "widens" if after > before else "narrows"


def _lower(before: Any, after: Any) -> Effect:
    if before is None or after is None:
        return _appeared_or_changed(before, after)
    return "widens" if after < before else "narrows"


def _required(before: Any, after: Any) -> Effect:
    return "narrows" if set(after or ()) - set(before or ()) else "widens"


def _choices(before: Any, after: Any) -> Effect:
    if before is None or after is None:
        return _appeared_or_changed(before, after)
    old = set(map(json.dumps, before if isinstance(before, list) else [before]))
    new = set(map(json.dumps, after if isinstance(after, list) else [after]))
    return "narrows" if old - new else "widens"


_JUDGES: dict[str, Callable[[Any, Any], Effect]] = {
    **dict.fromkeys(_UPPER, _upper),
    **dict.fromkeys(_LOWER, _lower),
    "required": _required,
    "enum": _choices,
    "type": _choices,
}
