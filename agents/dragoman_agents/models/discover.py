"""Finds the models that can be used here without being told: a key, or a server on this machine.

Looks at the keys of OpenAI, Anthropic and Gemini in their usual variables (and at the addresses
beside them), an Ollama server and a llama.cpp server on their usual ports. ``DRAGOMAN_MODEL``
chooses among a server's models; without it the first that the server lists and that can chat is
taken, because no model id is a default in code.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from msgspec import Struct, structs

from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.providers import PROVIDERS, load_packages, open_adapter
from dragoman_agents.models.settings import ModelSettings, is_openai
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["LOCAL_SERVERS", "Finding", "LocalServer", "discover_models"]

MODEL_VARIABLE = "DRAGOMAN_MODEL"

CONNECT_SECONDS = 0.5
UNKNOWN_MODEL = "unknown"

NOT_CHAT = re.compile(
    r"embed|minilm|(^|[/-])(bge|gte|e5)-|rerank|whisper|transcri|tts|dall-e|image|moderation|audio"
    r"|realtime|sora|babbage|davinci|turbo-instruct|computer-use|search",
    re.IGNORECASE,
)
"""Listed beside chat models, and not one. A guess, used only when nobody names a model."""


class LocalServer(Struct, frozen=True):
    """A kind of server and where it usually listens on this machine."""

    vendor: str
    port: int
    host: str = "127.0.0.1"

    @property
    def base_url(self) -> str:
        """Where its OpenAI-compatible interface is."""
        return f"http://{self.host}:{self.port}/v1"


LOCAL_SERVERS: tuple[LocalServer, ...] = (
    LocalServer("ollama", 11434),
    LocalServer("llama.cpp", 8080),
)
"""Where to look without being told."""


class _Keyed(Struct, frozen=True):
    """A provider whose key is looked for, with the variables that its SDK reads too."""

    provider: str
    key_variable: str
    address_variable: str


KEYED: tuple[_Keyed, ...] = (
    _Keyed("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    _Keyed("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    _Keyed("gemini", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
)


class Finding(Struct, frozen=True, kw_only=True):
    """Something found: a usable model, or a key or server that cannot be used as it is.

    Attributes:
        sentence: For people: what was found and, if it cannot be used, what to do.
        settings: For ``open_adapter`` or a declared agent; ``None`` when not usable.
    """

    sentence: str
    settings: ModelSettings | None = None

    @property
    def usable(self) -> bool:
        """Whether a model can be asked now."""
        return self.settings is not None


async def discover_models(
    environment: Mapping[str, str] | None = None,
    *,
    timeout: float = 3.0,
    local_servers: Sequence[LocalServer] = LOCAL_SERVERS,
) -> list[Finding]:
    """What is usable: the keys' models first, then the local servers, each in their order.

    Looks everywhere at once and takes at most about ``timeout`` seconds; a port where nothing
    listens is no finding. Never raises for what it finds.
    """
    known = os.environ if environment is None else environment
    wanted = known.get(MODEL_VARIABLE) or None
    searches = [_local(server, wanted, timeout) for server in local_servers]
    keys = [key for key in KEYED if known.get(key.key_variable)]
    load_packages(key.provider for key in keys)
    keyed = [_keyed(key, known, wanted, timeout) for key in keys]
    found = await asyncio.gather(*keyed, *searches)
    return [finding for finding in found if finding is not None]


async def _keyed(
    key: _Keyed, known: Mapping[str, str], wanted: str | None, timeout: float
) -> Finding | None:
    own = PROVIDERS[key.provider].base_url or ""
    address = known.get(key.address_variable) or own
    # Another server that takes OpenAI's key is not known to be like OpenAI's.
    is_other = key.provider == "openai" and not is_openai(address)
    try:
        settings = ModelSettings(
            provider="openai-compatible" if is_other else key.provider,
            base_url=address,
            model=wanted or UNKNOWN_MODEL,
            api_key_env=key.key_variable,
        )
    except ValueError as error:
        return Finding(sentence=f"{key.address_variable} cannot be used: {error}.")
    subject = f"The key in {key.key_variable}, at {address},"
    return await _probe(settings, subject, wanted, timeout, known)


async def _local(server: LocalServer, wanted: str | None, timeout: float) -> Finding | None:
    if not await _listens(server):
        return None
    settings = ModelSettings(
        base_url=server.base_url, model=wanted or UNKNOWN_MODEL, vendor=server.vendor
    )
    subject = f"The server on {server.host}:{server.port} ({server.vendor}'s usual port)"
    return await _probe(settings, subject, wanted, timeout)


async def _listens(server: LocalServer) -> bool:
    """A plain connection first: cheap, and the SDK need not be imported where nothing listens."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(server.host, server.port)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True
    return False


async def _probe(
    settings: ModelSettings,
    subject: str,
    wanted: str | None,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> Finding:
    try:
        adapter: Any = open_adapter(settings, environment=environment)
        async with aclosing(adapter):
            listed = await adapter.list_models(seconds=timeout)
    except (ModelError, NotConfigured) as error:
        return Finding(sentence=f"{subject} cannot be used: {error.message.rstrip('.')}.")
    if wanted is not None:
        return _choose(settings, subject, wanted, listed)
    usable = [model for model in listed if not NOT_CHAT.search(model)] or list(listed)
    if not usable:
        return Finding(sentence=f"{subject} answers, but has no model: load one first.")
    return Finding(
        sentence=f"{subject} works; using its model {usable[0]!r}, the first it lists "
        f"(set {MODEL_VARIABLE} to choose another).",
        settings=structs.replace(settings, model=usable[0]),
    )


def _choose(settings: ModelSettings, subject: str, wanted: str, listed: Sequence[str]) -> Finding:
    if wanted not in listed:
        shown = ", ".join(listed[:5]) or "none"
        return Finding(
            sentence=f"{subject} answers, but does not list the model {wanted!r} that "
            f"{MODEL_VARIABLE} names; it has: {shown}{', …' if len(listed) > 5 else ''}."
        )
    return Finding(
        sentence=f"{subject} works; using its model {wanted!r}, as {MODEL_VARIABLE} says.",
        settings=settings,
    )
