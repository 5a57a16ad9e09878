"""What the HTTP clients of all SDKs have in common: where they go, and what they must not send.

No redirect is followed: it would carry what was asked, and with some clients a key in a header of
its own (``x-goog-api-key``), to whatever host the answer names.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from dragoman_agents.models.settings import is_loopback

__all__ = ["client_facts", "custom_header_names", "http_client"]


def client_facts(address: str) -> dict[str, Any]:
    """Keyword arguments of an ``httpx2`` client for the server at ``address``."""
    # A proxy named by the environment cannot reach this machine's own servers.
    return {"follow_redirects": False, "trust_env": not is_loopback(address)}


def http_client(sdk: ModuleType, address: str) -> Any:
    """A client with the defaults of ``sdk`` (``openai``, ``anthropic``) for ``address``."""
    return sdk.DefaultAsyncHttpxClient(**client_facts(address))


def custom_header_names(variable: str) -> list[str]:
    """The headers that an SDK takes from a variable such as ``OPENAI_CUSTOM_HEADERS``.

    The key's own header is left out: the adapter sets it.
    """
    names = []
    for line in os.environ.get(variable, "").split("\n"):
        name, colon, _ = line.partition(":")
        if colon and name.strip() and name.strip().lower() != "authorization":
            names.append(name.strip())
    return names
