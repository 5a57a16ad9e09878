"""Writes a complete Llama model of half a megabyte with random weights, to try the machinery.

    python tiny_llama.py tiny.gguf

It speaks nonsense, but it is real inference: the same file format, tokenizer, attention and
sampling as a large model. Needs `pip install gguf`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy

WIDTH, HEADS, SHARED_HEADS, INNER, LAYERS = 64, 4, 2, 128, 2
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def vocabulary() -> tuple[list[bytes], list[int]]:
    """Three control tokens, every byte, and the printable characters as tokens of their own."""
    control, text, byte = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, gguf.TokenType.BYTE
    tokens = [(b"<unk>", control), (b"<s>", control), (b"</s>", control)]
    tokens += [(f"<0x{value:02X}>".encode(), byte) for value in range(256)]
    # SentencePiece writes a space as U+2581.
    tokens += [(chr(code).replace(" ", "\u2581").encode(), text) for code in range(32, 127)]
    return [token for token, _ in tokens], [int(kind) for _, kind in tokens]


def write_tiny_llama(
    path: str | Path, *, context: int = 512, template: str = CHAT_TEMPLATE, seed: int = 7
) -> Path:
    """Write the model and return where it is."""
    tokens, kinds = vocabulary()
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny-llama")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(SHARED_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(template)
    for name, shape in shapes(len(tokens)).items():
        writer.add_tensor(f"{name}.weight", weights(name, shape, seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)


def shapes(words: int) -> dict[str, tuple[int, ...]]:
    """The weights by name, each output by input."""
    shared = WIDTH // HEADS * SHARED_HEADS
    named: dict[str, tuple[int, ...]] = {
        "token_embd": (words, WIDTH),
        "output_norm": (WIDTH,),
        "output": (words, WIDTH),
    }
    for layer in range(LAYERS):
        block: dict[str, tuple[int, ...]] = {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (shared, WIDTH),
            "attn_v": (shared, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (INNER, WIDTH),
            "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }
        named |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    return named


def weights(name: str, shape: tuple[int, ...], seed: int) -> numpy.ndarray:
    if name.endswith("norm"):
        return numpy.ones(shape, dtype=numpy.float32)
    chance = numpy.random.default_rng([seed, *name.encode()])
    made = chance.normal(0, shape[-1] ** -0.5, shape).astype(numpy.float32)
    if name == "output":
        made[:259] = 0.0  # at temperature 0 it writes characters and never stops by itself
    return made


if __name__ == "__main__":
    print(write_tiny_llama(sys.argv[1] if len(sys.argv) > 1 else "tiny-llama.gguf"))
