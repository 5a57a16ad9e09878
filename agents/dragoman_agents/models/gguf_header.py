"""What a GGUF file says of its model, read and checked without the native library.

The native library trusts the file: some impossible values end the whole process. So the header
is judged here first, and what is wrong is said in words. Format: versions 2 and 3, little endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from msgspec import Struct

from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["GgufHeader", "read_gguf_header"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ENTRIES = 1 << 20
LONGEST_TEXT = 1 << 26
MOST_LAYERS = 4096
LONGEST_CONTEXT = 1 << 28

NUMBERS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
TEXT, ARRAY = 8, 9


class GgufHeader(Struct, frozen=True, kw_only=True):
    """The facts of a model file that matter before it is loaded.

    Attributes:
        architecture: As llama.cpp names it (``llama``, ``qwen3``, …).
        name: The model's own name; ``None`` when the file has none.
        context_length: Tokens the model was trained for.
        chat_template: The Jinja text that makes a prompt of a conversation; ``None`` without one.
    """

    architecture: str
    name: str | None
    context_length: int
    chat_template: str | None


def read_gguf_header(path: str | Path) -> GgufHeader:
    """The header of the model file at ``path``.

    Raises:
        NotConfigured: there is no such file, it is not a whole GGUF file, or it says what cannot
            be; the sentence names the file and the fix.
    """
    file = Path(path).expanduser()
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            return _header(_Reader(opened, size))
    except FileNotFoundError:
        raise NotConfigured(f"there is no model file {file}: set path to a GGUF file") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NotConfigured(f"the model file {file} cannot be read: {reason}") from None
    except ValueError as error:
        raise NotConfigured(
            f"{file} is not a usable GGUF model: {error}; copy or convert it again"
        ) from None


class _Reader:
    """Takes values off a file; everything that runs over its end is a ``ValueError``."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size

    def number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def text(self) -> str:
        length = self.number("<Q")
        if length > LONGEST_TEXT:
            raise ValueError(f"it has a text of {length} bytes")
        return self._take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A metadata value; of an array only its length, since the vocabulary is long."""
        if kind == TEXT:
            return self.text()
        if kind == ARRAY:
            return self._array()
        if kind not in NUMBERS:
            raise ValueError(f"it has metadata of the unknown type {kind}")
        return self.number(NUMBERS[kind])

    def _array(self) -> int:
        kind, length = self.number("<I"), int(self.number("<Q"))
        if kind in NUMBERS:
            self._skip(struct.calcsize(NUMBERS[kind]) * length)
        elif kind == TEXT:
            for _ in range(length):
                self._skip(self.number("<Q"))
        else:
            raise ValueError(f"it has an array of the unknown type {kind}")
        return length

    def _take(self, length: int) -> bytes:
        taken = self._file.read(length)
        if len(taken) < length:
            raise ValueError(f"it is cut off after {self.size} bytes, inside its header")
        return taken

    def _skip(self, length: int) -> None:
        if self._file.seek(length, 1) > self.size:
            raise ValueError(f"it is cut off after {self.size} bytes, inside its header")


def _header(reader: _Reader) -> GgufHeader:
    if reader.size < len(MAGIC) or reader.number("4s") != MAGIC:
        raise ValueError("it does not begin with GGUF")
    version = reader.number("<I")
    if version not in VERSIONS:
        raise ValueError(f"its format version is {version}, and known are 2 and 3")
    tensors, entries = reader.number("<Q"), reader.number("<Q")
    if max(tensors, entries) > MOST_ENTRIES:
        raise ValueError(f"it claims {tensors} tensors and {entries} metadata entries")
    metadata = {reader.text(): reader.value(reader.number("<I")) for _ in range(entries)}
    _check_tensors(reader, tensors)
    return _facts(metadata)


def _check_tensors(reader: _Reader, tensors: int) -> None:
    if not tensors:
        raise ValueError("it has no weights (a vocabulary only)")
    for _ in range(tensors):
        name, dimensions = reader.text(), reader.number("<I")
        if not 1 <= dimensions <= 4:
            raise ValueError(f"its tensor {name} has {dimensions} dimensions")
        sizes = [reader.number("<Q") for _ in range(dimensions)]
        if not 0 < math.prod(sizes) < 1 << 48:
            raise ValueError(f"its tensor {name} has the impossible shape {sizes}")
        _, offset = reader.number("<I"), reader.number("<Q")
        if offset >= reader.size:
            raise ValueError(f"it is cut off: {reader.size} bytes, and tensor {name} lies beyond")


def _facts(metadata: Mapping[str, Any]) -> GgufHeader:
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise ValueError("it does not name its architecture")
    layers = metadata.get(f"{architecture}.block_count")
    if not isinstance(layers, int) or not 1 <= layers <= MOST_LAYERS:
        raise ValueError(f"it claims {layers} layers")
    context = metadata.get(f"{architecture}.context_length")
    if not isinstance(context, int) or not 1 <= context <= LONGEST_CONTEXT:
        raise ValueError(f"it claims a context of {context} tokens")
    name, template = metadata.get("general.name"), metadata.get("tokenizer.chat_template")
    return GgufHeader(
        architecture=architecture,
        name=name if isinstance(name, str) and name else None,
        context_length=context,
        chat_template=template if isinstance(template, str) else None,
    )
