"""What configuration says about one model: where it is, which it is, how it is paid.

The table ``[agents.model]`` of the TOML file. It never holds a key, only where the key is.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct, field

from dragoman_agents.models.providers import check_settings

__all__ = ["ListedPrice", "ModelSettings", "PriceSettings", "family_of", "is_loopback", "is_openai"]

Price = Annotated[float, Meta(ge=0)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
Text = Annotated[str, Meta(min_length=1, max_length=256)]
Count = Annotated[int, Meta(ge=1, le=2**31)]
VariableName = Annotated[str, Meta(pattern=r"^[A-Z_][A-Z0-9_]{0,127}$(?!\n)")]
"""Capitals only: a key written here by mistake is refused, and so never printed as a name."""


class PriceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model.price]``: a list price, the day it was read, and where.

    Without ``cached_input_per_million_tokens``, cached input counts at the full input price.
    """

    input_per_million_tokens: Price
    output_per_million_tokens: Price
    currency: Currency
    as_of: datetime.date
    cached_input_per_million_tokens: Price | None = None
    source: Text | None = None


class ListedPrice(PriceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table ``[[prices]]``: the price of every model of a provider whose id fits.

    Attributes:
        provider: As models name it.
        model: The id of the model that serves; ``*`` stands for any text.
    """

    provider: Text
    model: Text


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[agents.model]``.

    Attributes:
        provider: Which adapter talks to it, by its name in ``providers.PROVIDERS``.
        base_url: The server's address up to and including its version (``…/v1``); absent where
            the provider has one of its own or none.
        model: The id the server knows the model by. There is no default: ids are retired.
        api_key_env: The environment variable that holds the key.
        api_key_file: The file that holds the key, instead.
        vendor: Who serves the model, as receipts name it; default: the provider.
        family: The model's family, as receipts name it; default: read off the model id.
        temperature: Sent with every call when given.
        max_output_tokens: Sent with every call when given; a task's own limit may be lower.
        context_window: What the card says, in tokens.
        timeout_seconds: The longest one call may take when its task has no earlier deadline.
        structured_output: Whether the server enforces a JSON Schema for its answers; absent: as
            the provider is known to, or found out by asking it once.
        attachments: What the model takes beside text.
        retires_on: The day the provider shuts the model down, where it is known.
        price: Without it, the cost of a call is unknown, not zero.
        prices: Prices by the model that served, used without ``price``; by default those of the
            file's ``[[prices]]``.
        options: What only this provider knows (the table ``[agents.model.options]``).
    """

    model: Text
    base_url: str | None = None
    provider: Text = "openai-compatible"
    api_key_env: VariableName | None = None
    api_key_file: Text | None = None
    vendor: Text | None = None
    family: Text | None = None
    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    max_output_tokens: Count | None = None
    context_window: Count | None = None
    timeout_seconds: Annotated[float, Meta(gt=0, le=86400)] = 300.0
    structured_output: bool | None = None
    attachments: tuple[Literal["image", "file"], ...] = ()
    retires_on: datetime.date | None = None
    price: PriceSettings | None = None
    prices: tuple[ListedPrice, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.base_url is not None:
            _check_address(self.base_url)
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("give api_key_env or api_key_file, not both")


def is_openai(base_url: str) -> bool:
    """Whether the address is OpenAI's own."""
    host = (urlsplit(base_url).hostname or "").lower()
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def is_loopback(base_url: str) -> bool:
    """Whether the address is this machine."""
    host = (urlsplit(base_url).hostname or "").lower()
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def family_of(model: str) -> str:
    """The leading word of a model id: ``llama`` of ``meta-llama/Llama-3.3-70B``, ``gpt`` of …"""
    word = re.match(r"[a-z]+", model.replace("\\", "/").rsplit("/", 1)[-1].lower())
    return word.group() if word else "unknown"


def _check_address(base_url: str) -> None:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url is not an address such as http://127.0.0.1:11434/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url holds a password; put the key where api_key_env names it")
    if parts.query or parts.fragment:
        raise ValueError("base_url has a query or fragment; end it with the version, as in /v1")
