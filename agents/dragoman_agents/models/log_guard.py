"""Keeps keys out of the log records of the libraries that carry them.

At level DEBUG the HTTP library logs every response header, and a server may well send a key back
in one. The filter stands on the loggers that make such records, so no handler sees the key.
"""

from __future__ import annotations

import logging
from weakref import WeakSet

from dragoman_agents.models.secrets import Secret

__all__ = ["guard_logs"]

LOGGERS = (
    "anthropic._base_client",
    "anthropic._response",
    "google_genai._api_client",
    "google_genai._common",
    "google_genai.models",
    "google_genai.types",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.http2",
    "httpcore2.proxy",
    "httpx2",
    "openai._base_client",
)


class _KeyFilter(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.secrets: WeakSet[Secret] = WeakSet()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        redacted = message
        for secret in self.secrets:
            redacted = secret.redact(redacted)
        if redacted != message:
            record.msg, record.args = redacted, ()
        return True


_FILTER = _KeyFilter()


def guard_logs(secret: Secret) -> None:
    """From now on and as long as ``secret`` lives, mask it in those libraries' records."""
    _FILTER.secrets.add(secret)
    for name in LOGGERS:
        # Adding the same filter again changes nothing.
        logging.getLogger(name).addFilter(_FILTER)
