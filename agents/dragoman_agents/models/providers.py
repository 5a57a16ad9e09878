"""Every provider as one entry of data: its adapter, the extra that installs its SDK, its key.

Nothing is imported until a provider is used. A new provider is one entry in ``PROVIDERS`` and one
module; configuration, ``open_adapter`` and ``dragoman models`` read this table.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import msgspec
from msgspec import Struct

from dragoman_bus.protocol.errors import NotConfigured

if TYPE_CHECKING:
    from dragoman_agents.models.port import ModelAdapter
    from dragoman_agents.models.settings import ModelSettings

__all__ = [
    "PROVIDERS",
    "Need",
    "Provider",
    "import_sdk",
    "missing_packages",
    "open_adapter",
    "read_options",
]

Need = Literal["required", "optional", "none"]

Options = TypeVar("Options", bound=Struct)


class Provider(Struct, frozen=True, kw_only=True):
    """One kind of model, as configuration names it in ``provider``.

    Attributes:
        module: Where the adapter is.
        factory: Its name there; called with ``(settings, *, environment=None)``.
        about: What it reaches, for people.
        extra: What to install: ``pip install "dragoman[extra]"``; ``None`` where nothing is needed.
        packages: The packages it imports, by import name.
        key: Whether it needs a key.
        key_variable: Where the key is looked for when configuration does not say, and only if
            ``base_url`` is not given: a key is never sent to another address by default.
        address: Whether ``base_url`` must, may or must not be given.
        options: The Struct in ``module`` that ``[agents.model.options]`` must fit; ``None`` where
            there are no options. It is a frozen Struct that forbids unknown fields.
        platforms: Values of ``sys.platform`` it works on; empty means all.
    """

    module: str
    factory: str
    about: str
    extra: str | None = None
    packages: tuple[str, ...] = ()
    key: Need = "required"
    key_variable: str | None = None
    address: Need = "optional"
    options: str | None = None
    platforms: tuple[str, ...] = ()


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "openai-compatible": Provider(
            module="dragoman_agents.models.openai_compatible",
            factory="OpenAICompatible",
            about="any server that speaks OpenAI's Chat Completions",
            extra="openai",
            packages=("openai",),
            key="optional",
            address="required",
        ),
        "llama": Provider(
            module="dragoman_agents.models.llama",
            factory="Llama",
            about="a GGUF file, run in the agent's process by llama.cpp",
            extra="llama",
            packages=("xllamacpp",),
            key="none",
            address="none",
            options="LlamaOptions",
        ),
        "onnx-genai": Provider(
            module="dragoman_agents.models.onnx_genai",
            factory="OnnxGenai",
            about="a model folder for onnxruntime-genai, run in processes of its own",
            extra="onnx-genai",
            packages=("onnxruntime_genai",),
            key="none",
            address="none",
            options="OnnxGenaiOptions",
        ),
        "apple": Provider(
            module="dragoman_agents.models.apple",
            factory="open_apple",
            about="Apple's on-device model: this Mac's, or with base_url another Mac's over HTTP",
            extra="apple",
            packages=("apple_fm_sdk",),
            key="optional",
        ),
    }
)
"""By the name that configuration writes in ``provider``."""


def open_adapter(
    settings: ModelSettings, *, environment: Mapping[str, str] | None = None
) -> ModelAdapter:
    """The adapter that ``settings.provider`` names, ready to be asked.

    Raises:
        NotConfigured: its key or its package is missing, or it does not run on this platform.
    """
    provider = PROVIDERS[settings.provider]
    if provider.platforms and sys.platform not in provider.platforms:
        known = ", ".join(provider.platforms)
        raise NotConfigured(f"the provider {settings.provider} needs the platform {known}")
    factory = getattr(importlib.import_module(provider.module), provider.factory)
    return cast("ModelAdapter", factory(settings, environment=environment))


def import_sdk(provider: str, package: str) -> ModuleType:
    """Import a provider's package on first use.

    Raises:
        NotConfigured: it is missing; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise NotConfigured(
            f'the provider {provider} needs the package "{package.partition(".")[0]}": '
            f'pip install "dragoman[{PROVIDERS[provider].extra}]"'
        ) from error


def missing_packages(provider: str) -> tuple[str, ...]:
    """The packages of ``provider`` that are not installed. None of them is imported."""
    return tuple(name for name in PROVIDERS[provider].packages if not _installed(name))


def read_options(options: Mapping[str, Any], kind: type[Options]) -> Options:
    """A provider's ``options`` as its Struct.

    Raises:
        ValueError: an unknown or mistyped option; the value is not shown.
    """
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__)
        raise ValueError(f"options: {error}; known are: {known}") from None


def check_settings(settings: ModelSettings) -> None:
    """Refuse settings that their provider cannot use.

    Raises:
        ValueError: an unknown provider, an address too many or missing, unusable options.
    """
    provider = PROVIDERS.get(settings.provider)
    if provider is None:
        raise ValueError(f"provider is one of: {', '.join(PROVIDERS)}")
    if provider.address == "required" and settings.base_url is None:
        raise ValueError(
            f"the provider {settings.provider} needs its server's address: write "
            'base_url = "http://127.0.0.1:11434/v1"'
        )
    if provider.address == "none" and settings.base_url is not None:
        raise ValueError(f"the provider {settings.provider} has no address; remove base_url")
    if provider.options is not None:
        kind = getattr(importlib.import_module(provider.module), provider.options)
        read_options(settings.options, kind)
    elif settings.options:
        raise ValueError(f"the provider {settings.provider} has no options; remove them")


def _installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
