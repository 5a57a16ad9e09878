"""What models can be used from here: per provider and per configured model, and what is missing.

Keys are told by the name of their variable or file, never by value. Nothing is spent: a provider
is asked for its list of models, not for an answer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

from msgspec import Struct

from dragoman_agents.models.discover import UNKNOWN_MODEL
from dragoman_agents.models.errors import ModelError
from dragoman_agents.models.pricing import model_facts
from dragoman_agents.models.providers import (
    PROVIDERS,
    address_of,
    key_place,
    load_packages,
    missing_packages,
    open_adapter,
)
from dragoman_agents.models.settings import ModelSettings
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.protocol.payloads import ModelFacts

__all__ = [
    "DEFAULT_SECONDS",
    "KeyStatus",
    "ModelStatus",
    "ProviderStatus",
    "model_statuses",
    "provider_statuses",
]

DEFAULT_SECONDS = 5.0


class KeyStatus(Struct, frozen=True, kw_only=True):
    """Where a key is looked for, by name, and whether something is there."""

    source: str
    present: bool


class ProviderStatus(Struct, frozen=True, kw_only=True):
    """One provider, as it is usable on this machine.

    Attributes:
        provider: Its name in configuration.
        about: What it reaches.
        install: What to install; empty when everything is.
        supported: Whether it runs on this platform.
        key: Its usual key; ``None`` where it needs none.
        reachable: Whether it answered; ``None`` when it was not asked.
        problem: Why it was not reachable.
    """

    provider: str
    about: str
    install: str
    supported: bool
    key: KeyStatus | None
    reachable: bool | None
    problem: str | None

    @property
    def installed(self) -> bool:
        """Whether its packages are there."""
        return not self.install


class ModelStatus(Struct, frozen=True, kw_only=True):
    """One configured model.

    Attributes:
        role: Its role, or the agent that declares it.
        provider: Which adapter.
        address: Where it is; ``None`` in this process.
        key: Where its key is; ``None`` where none is configured or needed.
        facts: What an agent announces of it; without a price, the price is unknown.
        reachable: Whether its server answered; ``None`` when it was not asked.
        problem: Why it cannot be used.
    """

    role: str
    provider: str
    address: str | None
    key: KeyStatus | None
    facts: ModelFacts
    reachable: bool | None
    problem: str | None


async def provider_statuses(
    environment: Mapping[str, str] | None = None,
    *,
    ask: bool = True,
    seconds: float = DEFAULT_SECONDS,
) -> list[ProviderStatus]:
    """Every known provider, in the order of the table.

    Args:
        environment: Instead of the process's own.
        ask: Whether to ask those that have an address, and a key where they need one.
        seconds: The longest that all answers together may take.
    """
    known = os.environ if environment is None else environment
    if ask:
        load_packages(name for name in PROVIDERS if _can_be_asked(name, known))
    return list(await asyncio.gather(*(_provider(name, known, ask, seconds) for name in PROVIDERS)))


async def model_statuses(
    models: Mapping[str, ModelSettings],
    environment: Mapping[str, str] | None = None,
    *,
    ask: bool = True,
    seconds: float = DEFAULT_SECONDS,
) -> list[ModelStatus]:
    """The given models, by role; arguments as for ``provider_statuses``."""
    known = os.environ if environment is None else environment
    if ask:
        load_packages(settings.provider for settings in models.values() if _is_asked(settings))
    return list(
        await asyncio.gather(
            *(_model(role, settings, known, ask, seconds) for role, settings in models.items())
        )
    )


async def _provider(
    name: str, environment: Mapping[str, str], ask: bool, seconds: float
) -> ProviderStatus:
    provider = PROVIDERS[name]
    missing = bool(missing_packages(name))
    supported = not provider.platforms or sys.platform in provider.platforms
    key = None
    if provider.key_variable is not None:
        key = _key(provider.key_variable, None, environment)
    reachable, problem = None, None
    if ask and supported and not missing and _can_be_asked(name, environment):
        settings = ModelSettings(provider=name, model=UNKNOWN_MODEL)
        reachable, problem = await _asked(settings, environment, seconds)
    return ProviderStatus(
        provider=name,
        about=provider.about,
        install=f'pip install "dragoman[{provider.extra}]"' if missing else "",
        supported=supported,
        key=key,
        reachable=reachable,
        problem=problem,
    )


async def _model(
    role: str, settings: ModelSettings, environment: Mapping[str, str], ask: bool, seconds: float
) -> ModelStatus:
    variable, file = key_place(settings)
    key = None if variable is None and file is None else _key(variable, file, environment)
    needs_one = PROVIDERS[settings.provider].key == "required"
    if key is None and needs_one:
        # Its usual variable is not taken: the address is not the provider's own.
        key = KeyStatus(source="api_key_env", present=False)
    if key is not None and not key.present and not needs_one:
        key = key if settings.api_key_env or settings.api_key_file else None
    reachable, problem = None, None
    if ask and _is_asked(settings):
        reachable, problem = await _asked(settings, environment, seconds)
    return ModelStatus(
        role=role,
        provider=settings.provider,
        address=address_of(settings),
        key=key,
        facts=model_facts(settings),
        reachable=reachable,
        problem=problem,
    )


def _can_be_asked(name: str, environment: Mapping[str, str]) -> bool:
    """Whether the provider has an address of its own, and the key it needs is there."""
    provider = PROVIDERS[name]
    has_key = provider.key != "required" or bool(environment.get(provider.key_variable or ""))
    return provider.address == "optional" and provider.base_url is not None and has_key


def _is_asked(settings: ModelSettings) -> bool:
    # A model in this process is a file that takes long to load; the agent does that.
    return PROVIDERS[settings.provider].address != "none"


async def _asked(
    settings: ModelSettings, environment: Mapping[str, str], seconds: float
) -> tuple[bool, str | None]:
    try:
        async with asyncio.timeout(seconds):
            async with aclosing(open_adapter(settings, environment=environment)) as adapter:
                await adapter.health()
    except TimeoutError:
        return False, f"no answer within {seconds:g} s"
    except (ModelError, NotConfigured) as error:
        address = address_of(settings)
        if isinstance(error, ModelError) and error.kind == "unreachable" and address is not None:
            return False, f"nothing answers at {address}"
        return False, error.message
    return True, None


def _key(variable: str | None, file: str | None, environment: Mapping[str, str]) -> KeyStatus:
    if file is not None:
        is_there = os.access(os.path.expanduser(file), os.R_OK)
        # A name that is no file's may be the key itself.
        source = file if is_there else f"a file in {Path(file).parent}"
        return KeyStatus(source=source, present=is_there)
    return KeyStatus(source=variable or "", present=bool(environment.get(variable or "")))
