"""Settings of a model, its keys, its family, and what its calls cost."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, structs

from dragoman_agents.models import ModelSettings, PriceSettings, Usage, read_secret
from dragoman_agents.models.openai_schemas import is_strict_schema
from dragoman_agents.models.pricing import cost_of, model_facts, task_usage
from dragoman_agents.models.settings import family_of, is_loopback, is_openai
from dragoman_bus.protocol.errors import NotConfigured
from dragoman_bus.protocol.payloads import Cost

PRICE = PriceSettings(
    input_per_million_tokens=2.0,
    output_per_million_tokens=8.0,
    currency="EUR",
    as_of=datetime.date(2026, 11, 1),
)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:8080",
        "ftp://host/v1",
        "http:///v1",
        "http://u:p@host/v1",
        "http://h/v1?key=x",
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="base_url") as refused:
        ModelSettings(base_url=address, model="m")
    assert "u:p" not in str(refused.value)


def test_a_key_comes_from_one_place_only() -> None:
    with pytest.raises(ValueError, match="not both"):
        ModelSettings(base_url="http://h/v1", model="m", api_key_env="A", api_key_file="b")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("llama3.2:1b", "llama"),
        ("meta-llama/Llama-3.3-70B", "llama"),
        ("/models/qwen2.5-7b.gguf", "qwen"),
        ("gpt-6-luna", "gpt"),
        ("4711", "unknown"),
    ],
)
def test_the_family_is_read_off_the_model(model: str, family: str) -> None:
    assert family_of(model) == family


def test_addresses_are_told_apart() -> None:
    assert is_openai("https://api.openai.com/v1")
    assert is_openai("https://eu.api.openai.com/v1")
    assert not is_openai("https://api.openai.com.evil.example/v1")
    assert is_loopback("http://127.0.0.1:1/v1")
    assert is_loopback("http://[::1]:1/v1")
    assert not is_loopback("http://127.evil.example/v1")


def test_cost_is_price_times_tokens() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cached_input_tokens=600, source="provider")
    assert cost_of(usage, PRICE) == Cost(amount=0.0028, currency="EUR")
    cached = structs.replace(PRICE, cached_input_per_million_tokens=0.5)
    assert cost_of(usage, cached) == Cost(amount=0.0019, currency="EUR")


@pytest.mark.parametrize("usage", [Usage(), Usage(input_tokens=5), Usage(output_tokens=5)])
def test_the_cost_of_unknown_usage_is_unknown_and_not_zero(usage: Usage) -> None:
    assert cost_of(usage, PRICE) is None
    assert task_usage(usage, PRICE).cost is UNSET


def test_the_cost_at_an_unknown_price_is_unknown_and_not_zero() -> None:
    told = task_usage(Usage(input_tokens=5, output_tokens=5, source="provider"), None)
    assert told.cost is UNSET
    assert (told.input_tokens, told.calls, told.source) == (5, 1, "provider")


def test_facts_name_vendor_family_price_and_retirement() -> None:
    settings = ModelSettings(
        base_url="http://h/v1",
        model="llama3.2:1b",
        vendor="ollama",
        price=PRICE,
        retires_on=datetime.date(2027, 1, 14),
    )
    facts = model_facts(settings)
    assert (facts.provider, facts.family, facts.retires_on) == ("ollama", "llama", "2027-01-14")
    assert getattr(facts.price, "as_of", None) == "2026-11-01"
    assert model_facts(ModelSettings(base_url="http://h/v1", model="m")).price is UNSET


def test_a_key_is_read_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-from-file\n")
    from_file = read_secret(file=str(file))
    from_variable = read_secret(variable="K", environment={"K": "sk-from-variable"})
    assert from_file is not None
    assert from_variable is not None
    assert from_file.reveal() == "sk-from-file"
    assert from_variable.reveal() == "sk-from-variable"
    assert read_secret() is None


@pytest.mark.parametrize("content", ["", " \n", "two words", "line\nline", "schlüssel"])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(NotConfigured, match="does not hold a key") as refused:
        read_secret(file=str(file))
    assert not content.strip() or content not in str(refused.value)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_key_file_that_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotConfigured, match="api_key_file names"):
        read_secret(file=str(tmp_path / name))


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """An object with these members and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "string"}, True),
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
        ({"type": "object"}, False),
        ({"properties": {"a": {}}, "additionalProperties": False}, False),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"anyOf": [{"type": "string"}, {"type": "object"}]}, False),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, False),
        (closed({"a": {"type": "array", "uniqueItems": True}}), False),
        (closed({"a": True}), False),
        (closed({"not": {"type": "string", "enum": ["if", "then"]}}), True),
        (closed({"a": {"$ref": "#/$defs/b"}}) | {"$defs": {"b": {"type": "object"}}}, False),
    ],
)
def test_strict_mode_is_asked_for_only_where_the_schema_allows_it(
    schema: dict[str, Any], strict: bool
) -> None:
    assert is_strict_schema(schema) is strict
