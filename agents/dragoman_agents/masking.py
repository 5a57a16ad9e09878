"""Text that leaves the process, or is logged, without the secrets that the process was given.

Exceptions of libraries repeat what they were called with: headers, addresses, keys. What is masked
are the values of environment variables that are named like secrets, and passwords in addresses.
"""

from __future__ import annotations

import os
import re
import traceback
from typing import Any

from msgspec import UnsetType, structs

from dragoman_agents.models.secrets import MASK, Secret
from dragoman_bus.protocol.payloads import ErrorObject

__all__ = ["masked", "masked_error", "masked_traceback"]

SECRET_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")
SHORTEST_SECRET = 8
PASSWORD = re.compile(r"(?<=://)[^\s/:@]*:[^\s/@]+(?=@)")


def masked(text: str) -> str:
    """``text`` without secrets."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST_SECRET and SECRET_NAMES.search(name.upper()):
            text = Secret(value).redact(text)
    return PASSWORD.sub(MASK, text)


def masked_error(error: ErrorObject) -> ErrorObject:
    """``error`` with message and details without secrets."""
    details = error.details
    return structs.replace(
        error,
        message=masked(error.message),
        details=details if isinstance(details, UnsetType) else _masked_value(details),
    )


def masked_traceback(error: BaseException) -> str:
    """The traceback of an exception without secrets, and as any log can hold it: in UTF-8."""
    text = masked("".join(traceback.format_exception(error)))
    return text.encode(errors="backslashreplace").decode()


def _masked_value(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: _masked_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_masked_value(one) for one in value]
    return value
