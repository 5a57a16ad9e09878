"""Trains a small text classifier and writes it as an ONNX file that describes itself.

    python train_classifier.py topics.onnx [training.tsv]

Each word has a vector; the mean of a text's vectors is its embedding, and one matrix turns that
into probabilities. Plain gradient descent over forty sentences takes a moment. Needs
`pip install numpy onnx`, and `dragoman[onnx]` for the same hashing of words as in use.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from dragoman_agents.models.onnx_tokens import HashedWords

TRAINING = Path(__file__).parents[1] / "data" / "training.tsv"
BUCKETS, WIDTH, SHORTEST = 4096, 16, 4
ROUNDS, RATE, DECAY = 300, 2.0, 1e-4

Examples = list[tuple[str, str]]


def read_examples(path: Path = TRAINING) -> Examples:
    """Label and text of each line; lines are `label<TAB>text`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t", 1) for line in lines if line and not line.startswith("#")]
    return [(label, text) for label, text in pairs]


def train(examples: Examples, labels: list[str]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The words' vectors and the matrix from a text's vector to its labels."""
    tokenize = HashedWords(BUCKETS, SHORTEST)
    counts = numpy.zeros((len(examples), BUCKETS), dtype=numpy.float32)
    for row, (_, text) in enumerate(examples):
        for word in tokenize(text):
            counts[row, word] += 1
    shares = counts / counts.sum(axis=1, keepdims=True)
    used = numpy.flatnonzero(shares.any(axis=0))
    shares = shares[:, used]
    wanted = numpy.eye(len(labels), dtype=numpy.float32)[
        [labels.index(label) for label, _ in examples]
    ]
    chance = numpy.random.default_rng(0)
    vectors = chance.normal(0, 0.1, (len(used), WIDTH)).astype(numpy.float32)
    matrix = chance.normal(0, 1.0, (WIDTH, len(labels))).astype(numpy.float32)
    for _ in range(ROUNDS):
        means = shares @ vectors
        error = (softmax(means @ matrix) - wanted) / len(examples)
        step_of_vectors = shares.T @ (error @ matrix.T) + DECAY * vectors
        matrix -= RATE * (means.T @ error + DECAY * matrix)
        vectors -= RATE * len(labels) * step_of_vectors
    table = numpy.zeros((BUCKETS, WIDTH), dtype=numpy.float32)
    table[used] = vectors
    return table, matrix


def softmax(scores: numpy.ndarray) -> numpy.ndarray:
    powers = numpy.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def write_classifier(path: str | Path, examples: Examples | None = None) -> Path:
    """Train on `examples` (default: the shipped sentences), write the file, return its path."""
    learned = read_examples() if examples is None else examples
    labels = sorted({label for label, _ in learned})
    vectors, matrix = train(learned, labels)
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["of_words"]),
        helper.make_node("ReduceMean", ["of_words", "axis"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "matrix"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
    ]
    outputs = {"probabilities": len(labels), "embedding": WIDTH}
    graph = helper.make_graph(
        nodes,
        "topics",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "words"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["texts", size])
            for name, size in outputs.items()
        ],
        [
            numpy_helper.from_array(vectors, "vectors"),
            numpy_helper.from_array(matrix, "matrix"),
            numpy_helper.from_array(numpy.array([1], dtype=numpy.int64), "axis"),
        ],
    )
    opset = helper.make_opsetid("", 18)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    tokenizer = {"kind": "hashed-words", "buckets": BUCKETS, "shortest": SHORTEST}
    described = {
        "dragoman.name": "topics",
        "dragoman.description": f"Tells texts about {', '.join(labels)} apart",
        "dragoman.version": "1.0.0",
        "dragoman.classify": "probabilities",
        "dragoman.embed": "embedding",
        "dragoman.labels": json.dumps(labels),
        "dragoman.tokenizer": json.dumps(tokenizer),
    }
    helper.set_model_props(model, described)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return Path(path)


if __name__ == "__main__":
    written = sys.argv[1] if len(sys.argv) > 1 else "topics.onnx"
    training = Path(sys.argv[2]) if len(sys.argv) > 2 else TRAINING
    print(write_classifier(written, read_examples(training)))
