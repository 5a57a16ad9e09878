"""A classifier or embedder in an ONNX file, run in this process and described by its own metadata.

Metadata entries (``metadata_props`` of the file), all texts:

=======================  ==========================================================================
``dragoman.classify``    the output that holds one value per label
``dragoman.activation``  ``softmax`` or ``sigmoid``, where those values are not probabilities yet
``dragoman.embed``       the output that holds the text's vector
``dragoman.labels``      JSON list of the labels, in the order of the probabilities
``dragoman.tokenizer``   JSON of ``TokenizerSettings``; default: hashed words
``dragoman.name``        the agent's name; also ``description`` and ``version``
=======================  ==========================================================================

The first input takes the token ids, int64, one row per text; inputs named ``attention_mask`` and
``token_type_ids`` take ones and zeros. Rows of results belong to rows of ids; where a row has a
vector per token, their mean is the text's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from dragoman_agents.models.onnx_tokens import TokenizerSettings, make_tokenizer
from dragoman_bus.protocol.errors import NotConfigured

__all__ = ["Classification", "Embedding", "OnnxModel", "OnnxModelFacts"]

PREFIX = "dragoman."
IDS_TYPE = "tensor(int64)"
DIGITS = 6

PER_TOKEN = 3
"""Dimensions of an output with a vector for each token."""

FILLED: Mapping[str, int] = {"attention_mask": 1, "token_type_ids": 0}
"""Inputs beside the token ids, by name, and the value they take everywhere."""


Activation: TypeAlias = Literal["none", "softmax", "sigmoid"]


class OnnxModelFacts(Struct, frozen=True, kw_only=True):
    """What the file says of itself.

    Attributes:
        name: The model's name.
        description: What it is, for people.
        version: Its own version.
        labels: What it can answer; empty when it does not classify.
        width: The length of its vectors; ``None`` when it does not embed, or does not say.
        classifies: The output with the probabilities; ``None`` when it does not classify.
        embeds: The output with the vector; ``None`` when it does not embed.
        activation: What makes probabilities of the values for the labels.
        tokenizer: How a text becomes token ids.
    """

    name: str
    description: str
    version: str
    labels: tuple[str, ...]
    width: int | None
    classifies: str | None
    embeds: str | None
    activation: Activation
    tokenizer: TokenizerSettings


class Classification(Struct, frozen=True):
    """The likeliest label, its probability, and those of all labels; the tokens it read."""

    label: str
    confidence: float
    scores: dict[str, float]
    tokens: int


class Embedding(Struct, frozen=True):
    """The vector of a text, of length 1; the tokens it was made of."""

    vector: list[float]
    tokens: int


class OnnxModel:
    """A loaded model. Its methods block, and may be called from several threads at once.

    Args:
        path: The ``.onnx`` file.
        threads: Processor threads of one call.

    Raises:
        NotConfigured: the package ``onnxruntime`` is missing, or the file is missing, broken, or
            does not say what it does.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        self.path = Path(path).expanduser()
        runtime = _load_runtime()
        self._session = _open(runtime, self.path, threads)
        self.facts = _facts(self._session, self.path)
        self._tokenize = make_tokenizer(self.facts.tokenizer, self.path.parent)
        self._inputs = _checked_inputs(self._session, self.path)

    def classify(self, text: str) -> Classification:
        """The label of ``text``.

        Raises:
            ValueError: the model gives something else than one probability per label.
        """
        assert self.facts.classifies is not None, "the model classifies"
        row, tokens = self._run(self.facts.classifies, text)
        row = _probabilities(row, self.facts.activation)
        labels = self.facts.labels
        if len(row) != len(labels) or not all(0.0 <= value <= 1.0 + 1e-4 for value in row):
            raise ValueError(f"{self.path.name} gave {len(row)} values for {len(labels)} labels")
        scores = {
            label: round(min(value, 1.0), DIGITS) for label, value in zip(labels, row, strict=True)
        }
        best = max(scores, key=lambda label: scores[label])
        return Classification(best, scores[best], scores, tokens)

    def embed(self, text: str) -> Embedding:
        """The vector of ``text``, scaled to length 1 (a zero vector stays zero).

        Raises:
            ValueError: the model gives no finite vector.
        """
        assert self.facts.embeds is not None, "the model embeds"
        row, tokens = self._run(self.facts.embeds, text)
        length = sum(value * value for value in row) ** 0.5
        if not row or not length < float("inf"):
            raise ValueError(f"{self.path.name} gave no finite vector")
        return Embedding([round(value / (length or 1.0), DIGITS) for value in row], tokens)

    def _run(self, output: str, text: str) -> tuple[list[float], int]:
        import numpy

        ids = self._tokenize(text)
        rows = numpy.array([ids], dtype=numpy.int64)
        fed = {name: numpy.full_like(rows, FILLED[name]) for name in self._inputs[1:]}
        (found,) = self._session.run([output], {self._inputs[0]: rows} | fed)
        if found.ndim == PER_TOKEN:
            found = found.mean(axis=1)
        return [float(value) for value in found.reshape(-1)], len(ids)


def _probabilities(row: list[float], activation: Activation) -> list[float]:
    if activation == "none" or not row:
        return row
    if activation == "sigmoid":
        return [0.5 * (1 + math.tanh(value / 2)) for value in row]
    most = max(row)
    powers = [math.exp(value - most) for value in row]
    return [power / sum(powers) for power in powers]


def _load_runtime() -> ModuleType:
    try:
        import numpy  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise NotConfigured(
            'an ONNX model needs the package "onnxruntime": pip install "dragoman[onnx]"'
        ) from error
    module: ModuleType = onnxruntime
    return module


def _open(runtime: ModuleType, path: Path, threads: int) -> Any:
    if not path.is_file():
        raise NotConfigured(f"there is no model file {path}")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the package's errors share no base class
        raise NotConfigured(f"onnxruntime cannot load {path}: {error}") from None


def _facts(session: Any, path: Path) -> OnnxModelFacts:
    meta = session.get_modelmeta()
    told = {
        key.removeprefix(PREFIX): value
        for key, value in meta.custom_metadata_map.items()
        if key.startswith(PREFIX)
    }
    outputs = {output.name: output.shape for output in session.get_outputs()}
    for task in ("classify", "embed"):
        if task in told and told[task] not in outputs:
            raise NotConfigured(f"{path}: {PREFIX}{task} names no output; it has {list(outputs)}")
    if not told.keys() & {"classify", "embed"}:
        raise NotConfigured(
            f"{path} does not say what it does: set the metadata {PREFIX}classify or "
            f"{PREFIX}embed to the name of an output; it has {list(outputs)}"
        )
    labels = _decoded(told, "labels", tuple[str, ...], (), path)
    if "classify" in told and (len(labels) < 2 or len(set(labels)) < len(labels)):
        raise NotConfigured(f"{path}: {PREFIX}labels must list two or more different labels")
    return OnnxModelFacts(
        name=told.get("name") or path.stem.lower(),
        description=told.get("description") or meta.description or f"The ONNX model {path.name}",
        version=told.get("version") or str(meta.version or 1),
        labels=labels,
        width=_width(outputs.get(told.get("embed", ""))),
        classifies=told.get("classify"),
        embeds=told.get("embed"),
        activation=_activation(told, path),
        tokenizer=_decoded(told, "tokenizer", TokenizerSettings, TokenizerSettings(), path),
    )


def _decoded(told: Mapping[str, str], key: str, kind: Any, default: Any, path: Path) -> Any:
    if key not in told:
        return default
    try:
        return msgspec.json.decode(told[key], type=kind)
    except msgspec.MsgspecError as error:
        raise NotConfigured(f"{path}: the metadata {PREFIX}{key} is wrong: {error}") from None


def _width(shape: Sequence[Any] | None) -> int | None:
    last = shape[-1] if shape else None
    return last if isinstance(last, int) else None


def _activation(told: Mapping[str, str], path: Path) -> Activation:
    for known in get_args(Activation):
        if told.get("activation", "none") == known:
            found: Activation = known
            return found
    raise NotConfigured(f"{path}: the metadata {PREFIX}activation is softmax or sigmoid")


def _checked_inputs(session: Any, path: Path) -> list[str]:
    """The inputs' names, that of the token ids first."""
    inputs = session.get_inputs()
    names = [value.name for value in inputs]
    known = len(set(names)) == len(names) and set(names[1:]) <= FILLED.keys()
    if not names or not known or any(value.type != IDS_TYPE for value in inputs):
        raise NotConfigured(
            f"{path} takes {[(value.name, value.type) for value in inputs]}; only token ids and "
            f"then {' and '.join(FILLED)}, all {IDS_TYPE}, can be given"
        )
    return names
