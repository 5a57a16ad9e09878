"""How a text becomes the token ids that an ONNX model takes, as the model's metadata says.

``hashed-words`` needs nothing but the text: each word's CRC-32 chooses one of ``buckets`` ids.
``tokenizers`` reads a ``tokenizer.json`` beside the model with the package of that name.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta, Struct

from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["HashedWords", "Tokenize", "TokenizerSettings", "make_tokenizer"]

WORD = re.compile(r"[^\W_]+")
NO_WORD = 0
"""The id of a text without any known word."""


class TokenizerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metadata entry ``dragoman.tokenizer``, as JSON.

    Attributes:
        kind: ``hashed-words`` or ``tokenizers``.
        buckets: For hashed words: how many ids there are; id 0 stands for no word.
        shortest: For hashed words: shorter words are left out.
        file: For tokenizers: the file's name, in the model's folder.
    """

    kind: Literal["hashed-words", "tokenizers"] = "hashed-words"
    buckets: Annotated[int, Meta(ge=2, le=2**31)] = 4096
    shortest: Annotated[int, Meta(ge=1, le=32)] = 1
    file: Annotated[str, Meta(pattern=r"^[^/\\]+\.json$(?!\n)")] = "tokenizer.json"


class Tokenize(Protocol):
    """Token ids of a text; at least one."""

    def __call__(self, text: str) -> list[int]:
        """The ids of ``text``."""


class HashedWords(Struct, frozen=True):
    """Each word of a text as its CRC-32, folded into ``buckets`` ids from 1."""

    buckets: int
    shortest: int = 1

    def __call__(self, text: str) -> list[int]:
        """The ids of the words of ``text``, in their order."""
        words = (word for word in WORD.findall(text.lower()) if len(word) >= self.shortest)
        ids = [1 + zlib.crc32(word.encode()) % (self.buckets - 1) for word in words]
        return ids or [NO_WORD]


def make_tokenizer(settings: TokenizerSettings, folder: Path) -> Tokenize:
    """The tokenizer that ``settings`` describe.

    Raises:
        NotConfigured: its file or its package is missing.
    """
    if settings.kind == "hashed-words":
        return HashedWords(settings.buckets, settings.shortest)
    loaded = _load(folder / settings.file)

    def tokenize(text: str) -> list[int]:
        return list(loaded.encode(text).ids) or [NO_WORD]

    return tokenize


def _load(file: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise NotConfigured(
            f'the tokenizer {file.name} needs the package "tokenizers": pip install tokenizers'
        ) from error
    if not file.is_file():
        raise NotConfigured(f"the model's tokenizer is missing: put {file.name} into {file.parent}")
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the package raises plain Exception
        raise NotConfigured(f"{file} is not a tokenizer: {error}") from None
