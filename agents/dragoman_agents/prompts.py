"""Prompts with holes: ``{{name}}`` is replaced by that member of a skill's input.

Double braces collide neither with JSON nor with money in a prompt, and what is put into a hole is
never looked at again: input cannot open holes of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["placeholders", "render_prompt"]

HOLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def placeholders(template: str) -> tuple[str, ...]:
    """The names of the holes, in order, each once."""
    return tuple(dict.fromkeys(HOLE.findall(template)))


def render_prompt(template: str | None, members: Mapping[str, Any]) -> str:
    """The prompt for one input.

    Text goes in as it is, other values as JSON; a member that is not given leaves nothing. Without
    a template, an input of one text is the prompt, and any other input is sent as JSON.
    """
    if template is None:
        values = list(members.values())
        if len(values) == 1 and isinstance(values[0], str):
            return values[0]
        return _as_text(dict(members))
    return HOLE.sub(lambda hole: _as_text(members.get(hole[1], "")), template)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
