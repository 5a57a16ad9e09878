"""Log lines of the libraries on standard error: warnings and errors, or all with ``--debug``."""

from __future__ import annotations

import logging

__all__ = ["configure_logs"]


def configure_logs(debug: bool) -> None:
    """Send log records to standard error, one line each."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    for noisy in ("asyncio", "httpcore", "httpx", "openai"):
        logging.getLogger(noisy).setLevel(logging.INFO if debug else logging.WARNING)
