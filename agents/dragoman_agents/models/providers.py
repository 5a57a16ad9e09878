"""Every provider as one entry of data: its adapter, the extra that installs its SDK, its key.

Nothing is imported until a provider is used. A new provider is one entry in ``PROVIDERS`` and one
module; configuration, ``open_adapter`` and ``dragoman models`` read this table.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from dragoman_agents.models.secrets import Secret, read_secret
from dragoman_bus.protocol.errors import NotConfigured

if TYPE_CHECKING:
    from dragoman_agents.models.port import ModelAdapter
    from dragoman_agents.models.settings import ModelSettings

__all__ = [
    "PROVIDERS",
    "Need",
    "Provider",
    "address_of",
    "check_settings",
    "import_sdk",
    "key_place",
    "key_variables",
    "load_packages",
    "missing_packages",
    "open_adapter",
    "read_key",
    "read_options",
]

Need = Literal["required", "optional", "none"]

SECRET_NAME = re.compile(r"key|token|secret|password", re.IGNORECASE)

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
        key_variable: Where the key is looked for when configuration does not say.
        key_hosts: The hosts, and the hosts below them, that get the key of ``key_variable``
            without being told so: a key never goes to a stranger by default.
        address: Whether ``base_url`` must, may or must not be given.
        base_url: The address without ``base_url``.
        temperature: Whether it takes a temperature; where not, configuration must not give one.
        options: The Struct in ``module`` that ``[agents.model.options]`` must fit; ``None`` where
            there are no options. It is a frozen Struct that forbids unknown fields.
        platforms: Values of ``sys.platform`` it works on; empty means all. Elsewhere the adapter
            itself says what to do instead.
    """

    module: str
    factory: str
    about: str
    extra: str | None = None
    packages: tuple[str, ...] = ()
    key: Need = "required"
    key_variable: str | None = None
    key_hosts: tuple[str, ...] = ()
    address: Need = "optional"
    base_url: str | None = None
    temperature: bool = True
    options: str | None = None
    platforms: tuple[str, ...] = ()


AZURE_HOSTS = ("openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com")


def _openai_family(about: str, **facts: Any) -> Provider:
    """An entry for a server that the package ``openai`` reaches."""
    return Provider(
        **{
            "module": "dragoman_agents.models.openai_compatible",
            "factory": "OpenAICompatible",
            "about": about,
            "extra": "openai",
            "packages": ("openai",),
            "key": "optional",
            "options": "OpenAIOptions",
        }
        | facts
    )


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "openai": _openai_family(
            "OpenAI's own API",
            key="required",
            key_variable="OPENAI_API_KEY",
            key_hosts=("api.openai.com",),
            base_url="https://api.openai.com/v1",
        ),
        "azure-openai": _openai_family(
            "Azure OpenAI: a resource's deployments, v1 or with an api_version",
            factory="AzureOpenAI",
            module="dragoman_agents.models.azure",
            options="AzureOptions",
            key="required",
            key_variable="AZURE_OPENAI_API_KEY",
            key_hosts=AZURE_HOSTS,
            address="required",
        ),
        "azure-foundry": _openai_family(
            "Azure AI Foundry: Llama and others by deployment name",
            factory="AzureOpenAI",
            module="dragoman_agents.models.azure",
            options="AzureOptions",
            key="required",
            key_variable="AZURE_AI_API_KEY",
            key_hosts=AZURE_HOSTS,
            address="required",
        ),
        "anthropic": Provider(
            module="dragoman_agents.models.anthropic",
            factory="Anthropic",
            about="Anthropic's Claude",
            extra="anthropic",
            packages=("anthropic",),
            key_variable="ANTHROPIC_API_KEY",
            key_hosts=("api.anthropic.com",),
            base_url="https://api.anthropic.com/v1",
            temperature=False,
            options="AnthropicOptions",
        ),
        "gemini": Provider(
            module="dragoman_agents.models.gemini",
            factory="Gemini",
            about="Google's Gemini, by its developer API",
            extra="google-genai",
            packages=("google.genai",),
            key_variable="GEMINI_API_KEY",
            key_hosts=("generativelanguage.googleapis.com",),
            base_url="https://generativelanguage.googleapis.com/v1",
            options="GeminiOptions",
        ),
        "gemini-vertex": Provider(
            module="dragoman_agents.models.gemini_vertex",
            factory="VertexGemini",
            about="Google's Gemini on Vertex AI, with this machine's Google credentials",
            extra="google-genai",
            packages=("google.genai",),
            key="optional",
            options="VertexOptions",
        ),
        "openai-compatible": _openai_family(
            "any server that speaks OpenAI's Chat Completions", address="required"
        ),
        "ollama": _openai_family("an Ollama server", base_url="http://127.0.0.1:11434/v1"),
        "llama.cpp": _openai_family(
            "llama.cpp's server, llama-server", base_url="http://127.0.0.1:8080/v1"
        ),
        "vllm": _openai_family("a vLLM server", base_url="http://127.0.0.1:8000/v1"),
        "lm-studio": _openai_family("LM Studio's server", base_url="http://127.0.0.1:1234/v1"),
        "openrouter": _openai_family(
            "OpenRouter's models",
            key="required",
            key_variable="OPENROUTER_API_KEY",
            key_hosts=("openrouter.ai",),
            base_url="https://openrouter.ai/api/v1",
        ),
        "gemini-compatible": _openai_family(
            "Google Gemini through its OpenAI-compatible endpoint",
            key="required",
            key_variable="GEMINI_API_KEY",
            key_hosts=("generativelanguage.googleapis.com",),
            base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        ),
        "apple-fm-server": _openai_family(
            "Apple's on-device model: `fm serve` on a Mac, over HTTP",
            base_url="http://127.0.0.1:1976/v1",
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
            factory="AppleOnDevice",
            about="Apple's on-device model, on the Mac that runs the agent",
            extra="apple",
            packages=("apple_fm_sdk",),
            platforms=("darwin",),
            key="none",
            address="none",
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
    factory = getattr(importlib.import_module(provider.module), provider.factory)
    return cast("ModelAdapter", factory(settings, environment=environment))


def address_of(settings: ModelSettings) -> str | None:
    """Where the settings' model is reached; ``None`` for one that has no address."""
    return settings.base_url or PROVIDERS[settings.provider].base_url


def key_place(settings: ModelSettings) -> tuple[str | None, str | None]:
    """The variable and the file that may hold the key, by configuration or by default."""
    if settings.api_key_env is not None or settings.api_key_file is not None:
        return settings.api_key_env, settings.api_key_file
    provider = PROVIDERS[settings.provider]
    address = address_of(settings)
    parts = urlsplit(address or "")
    host = parts.hostname or ""
    # Over http the key would be readable on its way, whoever the host is.
    known = settings.base_url is None or (
        parts.scheme == "https"
        and any(host == name or host.endswith(f".{name}") for name in provider.key_hosts)
    )
    return (provider.key_variable if known else None), None


def key_variables(models: Iterable[ModelSettings]) -> frozenset[str]:
    """Every variable that may hold a key: the providers' own, and those that ``models`` name."""
    usual = {provider.key_variable for provider in PROVIDERS.values()}
    named = {settings.api_key_env for settings in models}
    return frozenset(name for name in usual | named if name is not None)


def read_key(
    settings: ModelSettings, environment: Mapping[str, str] | None = None
) -> Secret | None:
    """The key for the settings' model; ``None`` where it needs none and none is configured.

    Raises:
        NotConfigured: it is missing; the message says where it was looked for.
    """
    provider = PROVIDERS[settings.provider]
    variable, file = key_place(settings)
    known = os.environ if environment is None else environment
    is_default = variable is not None and variable != settings.api_key_env
    if is_default and not known.get(variable or ""):
        variable = None
    key = read_secret(variable=variable, file=file, environment=environment)
    if key is None and provider.key == "required":
        name = provider.key_variable or "MODEL_API_KEY"
        fix = f"export {name}=..." if is_default else f'write api_key_env = "{name}"'
        raise NotConfigured(f"the provider {settings.provider} needs a key: {fix}")
    return key


def import_sdk(provider: str, package: str) -> ModuleType:
    """Import a provider's package on first use.

    Raises:
        NotConfigured: it is missing; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise NotConfigured(
            f'the provider {provider} needs the package "{package}": '
            f'pip install "dragoman[{PROVIDERS[provider].extra}]"'
        ) from error


def missing_packages(provider: str) -> tuple[str, ...]:
    """The packages of ``provider`` that are not installed. None of them is imported."""
    return tuple(name for name in PROVIDERS[provider].packages if not _installed(name))


def load_packages(providers: Iterable[str]) -> None:
    """Import the packages of several providers that are about to be asked at once.

    Loading one takes up to seconds, which would count as silence of those asked before it.
    """
    for name in {package for provider in providers for package in PROVIDERS[provider].packages}:
        # A package that is missing or broken is complained of by its adapter.
        with suppress(ImportError):
            importlib.import_module(name)


def read_options(options: Mapping[str, Any], kind: type[Options]) -> Options:
    """A provider's ``options`` as its Struct.

    Raises:
        ValueError: an unknown or mistyped option; the value is not shown.
    """
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        misplaced = [name for name in options if SECRET_NAME.search(name)]
        if misplaced and misplaced[0] not in kind.__struct_fields__:
            raise ValueError(
                f"options: a secret does not belong in the file; instead of {misplaced[0]} write "
                'api_key_env = "..." with the name of the variable that holds it'
            ) from None
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
    if settings.temperature is not None and not provider.temperature:
        raise ValueError(f"the provider {settings.provider} takes no temperature; remove it")
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
