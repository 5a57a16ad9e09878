"""Writes a text generator for onnxruntime-genai that has learned which character follows which.

    python tiny_generator.py tiny-generator

The folder holds what any model for onnxruntime-genai has: the ONNX graph with its key and value
cache, `genai_config.json`, and a tokenizer. The graph only looks the last character up in a table
of pairs, counted in the shipped texts. Needs `pip install numpy onnx`.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

TEXTS = Path(__file__).parents[1] / "texts"
BEGIN, END = 256, 257
WORDS = 258
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def count_pairs(texts: list[str]) -> numpy.ndarray:
    """The logarithm of how often each byte follows each other one; END never wins."""
    counts = numpy.full((WORDS, WORDS), 1e-3, dtype=numpy.float32)
    counts[:, :33] = 1e-5  # what was never seen is rather a letter than a blank
    for text in texts:
        letters = text.encode()
        for first, second in itertools.pairwise(letters):
            counts[first, second] += 1
    counts[:, BEGIN:] = 1e-9
    return numpy.log(counts)


def write_graph(path: Path, table: numpy.ndarray) -> None:
    """A graph with one layer of cache that is only handed on, as the runtime expects one."""
    batch, length, past = "batch", "length", "past"
    cache = ["batch", 1, past, 2]
    grown = ["batch", 1, "total", 2]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
        # One pair of zeros for each new token.
        helper.make_node("Cast", ["input_ids"], ["as_numbers"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["as_numbers", "nothing"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "axes"], ["one_head"]),
        helper.make_node("Concat", ["one_head", "one_head"], ["new"], axis=3),
        helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], axis=2),
        helper.make_node("Concat", ["past_key_values.0.value", "new"], ["present.0.value"], axis=2),
    ]
    number, whole = TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("input_ids", whole, [batch, length]),
        helper.make_tensor_value_info("attention_mask", whole, [batch, "total"]),
        helper.make_tensor_value_info("past_key_values.0.key", number, cache),
        helper.make_tensor_value_info("past_key_values.0.value", number, cache),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", number, [batch, length, WORDS]),
        helper.make_tensor_value_info("present.0.key", number, grown),
        helper.make_tensor_value_info("present.0.value", number, grown),
    ]
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(numpy.array(0, dtype=numpy.float32), "nothing"),
        numpy_helper.from_array(numpy.array([1, 3], dtype=numpy.int64), "axes"),
    ]
    graph = helper.make_graph(nodes, "pairs", inputs, outputs, constants)
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(path))


def tokenizer() -> dict[str, object]:
    """Bytes as tokens, in the spelling that byte-level tokenizers use."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printable]
    spelled = {value: chr(value) for value in printable}
    spelled |= {value: chr(256 + position) for position, value in enumerate(others)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": id, "content": content, "special": True, **special}
        for id, content in ((BEGIN, "<s>"), (END, "</s>"))
    ]
    vocabulary = {spelled[value]: value for value in range(256)} | {"<s>": BEGIN, "</s>": END}
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": level | {"use_regex": True},
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }


def write_tiny_generator(folder: str | Path, *, context: int = 1024) -> Path:
    """Write the folder and return where it is."""
    made = Path(folder)
    made.mkdir(parents=True, exist_ok=True)
    texts = [path.read_text(encoding="utf-8") for path in sorted(TEXTS.glob("*.txt"))]
    write_graph(made / "model.onnx", count_pairs(texts))
    inputs = {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    decoder = {
        "session_options": {},
        "filename": "model.onnx",
        "head_size": 2,
        "hidden_size": 2,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
        "inputs": inputs,
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    model = {
        "type": "llama",
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "pad_token_id": END,
        "context_length": context,
        "vocab_size": WORDS,
        "decoder": decoder,
    }
    files = {
        "genai_config.json": {"model": model, "search": {"max_length": context}},
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "chat_template": CHAT_TEMPLATE,
        },
    }
    for name, content in files.items():
        (made / name).write_text(json.dumps(content), encoding="utf-8")
    return made


if __name__ == "__main__":
    print(write_tiny_generator(sys.argv[1] if len(sys.argv) > 1 else "tiny-generator"))
