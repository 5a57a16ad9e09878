"""A key that cannot be printed by accident, and text freed from it.

Keys come from an environment variable or a file that configuration names, never from
configuration itself (DESIGN: no secret in a log, a trace, a card or an error).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["MASK", "Secret", "read_secret"]

MASK = "[redacted]"

SHORTEST_REDACTED = 4
"""A shorter "key" is a placeholder such as ``x``; masking it would garble every message."""


class Secret:
    """A secret text. Only ``reveal`` gives it away; ``str``, ``repr`` and pickling do not."""

    __slots__ = ("__weakref__", "_value")

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the one place that must send it."""
        return self._value

    def redact(self, text: str) -> str:
        """``text`` with the secret masked, however often it stands there, as in an address too."""
        if len(self._value) < SHORTEST_REDACTED:
            return text
        for spelled in (self._value, quote(self._value, safe="")):
            text = text.replace(spelled, MASK)
        return text

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


def read_secret(
    *,
    variable: str | None = None,
    file: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Secret | None:
    """The key that configuration points at; ``None`` when it points at nothing.

    Args:
        variable: The name of an environment variable (``api_key_env``).
        file: The path of a file that holds only the key (``api_key_file``).
        environment: Instead of the process's own.

    Raises:
        NotConfigured: the variable is not set, the file cannot be read, or it is empty.
    """
    if variable is not None:
        return _checked(_from_variable(variable, environment), f"the variable {variable}")
    if file is not None:
        return _checked(_from_file(file), f"the file {file}")
    return None


def _from_variable(variable: str, environment: Mapping[str, str] | None) -> str:
    value = (os.environ if environment is None else environment).get(variable)
    if value is None:
        raise NotConfigured(
            f"api_key_env names the environment variable {variable}, which is not set: "
            f"export {variable}=... before starting the agent"
        )
    return value


def _from_file(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(
            # The name may be the key itself, written where the file's name belongs.
            f"api_key_file names a file in {Path(path).parent} that cannot be read: "
            f"{type(error).__name__}"
        ) from None


def _checked(value: str, origin: str) -> Secret:
    key = value.strip()
    if not key or not key.isprintable() or not key.isascii() or " " in key:
        raise NotConfigured(f"{origin} does not hold a key: one line of ASCII text without spaces")
    return Secret(key)
