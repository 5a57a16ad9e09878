"""Clients of the package ``openai`` that send one key to one server and read nothing ambient.

The SDK's own retries are off, because only the bus retries. What it takes from ``OPENAI_*``
variables is undone for every server but OpenAI's, so that no key or account id goes to a stranger.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from dragoman_agents.models.sdk_clients import custom_header_names, http_client
from dragoman_agents.models.secrets import Secret
from dragoman_agents.models.settings import is_openai

__all__ = ["client_options", "headers_for"]

NO_KEY = "none"
"""The SDK insists on a key; without one of ours it is given this and told not to send it."""


def client_options(
    sdk: ModuleType, address: str, key: Secret | None, timeout: float
) -> dict[str, Any]:
    """Keyword arguments that every client of the SDK takes alike."""
    return {
        "api_key": NO_KEY if key is None else key.reveal(),
        "max_retries": 0,
        "timeout": timeout,
        "http_client": http_client(sdk, address),
    }


def headers_for(sdk: ModuleType, address: str, key: Secret | None) -> dict[str, Any]:
    """Headers of every request: the key as bearer, and what must not be sent left out."""
    headers = {} if is_openai(address) else _without_ambient_headers(sdk.omit)
    # Otherwise the SDK would take OPENAI_API_KEY and send it wherever base_url points.
    headers["Authorization"] = sdk.omit if key is None else f"Bearer {key.reveal()}"
    return headers


def _without_ambient_headers(omitted: Any) -> dict[str, Any]:
    """Header overrides that undo what the SDK takes from ``OPENAI_*`` variables."""
    names = ["OpenAI-Organization", "OpenAI-Project"]
    return dict.fromkeys(names + custom_header_names("OPENAI_CUSTOM_HEADERS"), omitted)
