"""The table of providers: every entry works, and keys go where they belong."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

from dragoman_agents.models import PROVIDERS, ModelSettings, open_adapter
from dragoman_agents.models.providers import key_place, missing_packages, read_key
from dragoman_bus.protocol.errors import NotConfigured

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_provider_has_its_module_factory_options_and_extra(name: str) -> None:
    provider = PROVIDERS[name]
    module = importlib.import_module(provider.module)
    assert callable(getattr(module, provider.factory))
    assert provider.options is None or hasattr(module, provider.options)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    assert provider.extra is None or provider.extra in extras
    assert bool(provider.packages) == (provider.extra is not None)
    assert provider.about


def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    assert missing_packages("openai") == ("openai",)
    with pytest.raises(NotConfigured, match=r'openai needs .* pip install "dragoman\[openai\]"'):
        open_adapter(ModelSettings(provider="openai", model="any"), environment={})


def test_an_unknown_provider_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"provider is one of: openai, azure-openai"):
        ModelSettings(provider="opanai", model="any")


def test_a_provider_without_an_address_of_its_own_needs_one() -> None:
    with pytest.raises(ValueError, match="base_url ="):
        ModelSettings(provider="azure-openai", model="any")


@pytest.mark.parametrize(
    ("members", "variable"),
    [
        ({"provider": "openai"}, "OPENAI_API_KEY"),
        ({"provider": "openai", "base_url": "https://eu.api.openai.com/v1"}, "OPENAI_API_KEY"),
        ({"provider": "openai", "base_url": "https://api.openai.com.evil.example/v1"}, None),
        ({"provider": "openai", "base_url": "https://evilapi.openai.com.example/v1"}, None),
        ({"provider": "openai", "base_url": "http://api.openai.com/v1"}, None),
        ({"provider": "openai", "api_key_env": "MINE"}, "MINE"),
        ({"provider": "anthropic"}, "ANTHROPIC_API_KEY"),
        ({"provider": "anthropic", "base_url": "https://anthropic.com.example"}, None),
        ({"provider": "gemini"}, "GEMINI_API_KEY"),
        ({"provider": "gemini", "base_url": "https://evil.googleapis.com"}, None),
        (
            {"provider": "azure-openai", "base_url": "https://me.openai.azure.com"},
            "AZURE_OPENAI_API_KEY",
        ),
        ({"provider": "azure-openai", "base_url": "https://openai.azure.example.com"}, None),
        ({"provider": "ollama"}, None),
    ],
)
def test_a_default_key_goes_only_to_its_own_provider(
    members: dict[str, str], variable: str | None
) -> None:
    assert key_place(ModelSettings(model="any", **members))[0] == variable


def test_a_key_that_is_missing_says_where_it_was_looked_for() -> None:
    with pytest.raises(NotConfigured, match="export OPENAI_API_KEY"):
        read_key(ModelSettings(provider="openai", model="any"), {})
    stranger = ModelSettings(provider="openai", model="any", base_url="https://proxy.example/v1")
    with pytest.raises(NotConfigured, match="write api_key_env"):
        read_key(stranger, {"OPENAI_API_KEY": "sk-never-for-strangers"})
    assert read_key(ModelSettings(provider="ollama", model="any"), {}) is None
