"""A whole llama model of a few kilobytes, with random weights, as a GGUF file."""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize

from ggml_blocks import random_blocks

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n"
    "' + message['content'] + '<|im_end|>' + '\n"
    "'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n"
    "' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (
    ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("e", "r"), ("a", "n"), ("Ġ", "a"), ("o", "n"), ("r", "e"),
    ("an", "d"), ("Ġ", "s"), ("in", "g"), ("Ġ", "w"), ("o", "r"),
)  # fmt: skip


@dataclass(frozen=True)
class TinyShape:
    """Sizes of the model; all are multiples of 32, as they are in most models."""

    hidden_size: int = 64
    intermediate_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 16
    vocab_size: int = 320
    context_length: int = 256
    tied: bool = True


def byte_tokens() -> list[str]:
    """GPT-2's 256 printable stand-ins for bytes, in its order."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + index) for index in range(len(hidden))]


def write_tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    quant: str = "Q4_1",
    embedding_quant: str | None = None,
    shape: TinyShape | None = None,
) -> Path:
    """Write the model with matrices of GGML's type ``quant`` (the embedding's may differ), and return ``path``."""
    shape = shape or TinyShape()
    writer = gguf.GGUFWriter(path, "llama")
    _write_metadata(writer, shape)
    write_vocabulary(writer, shape.vocab_size)
    for name, (rows, columns) in matrix_shapes(shape).items():
        kind = embedding_quant if embedding_quant and name == "token_embd.weight" else quant
        _write_matrix(writer, name, _random(seed, name, rows, columns) / np.float32(columns) ** 0.5, kind)
    for name in norm_names(shape):
        writer.add_tensor(name, 1 + 0.1 * _random(seed, name, 1, shape.hidden_size)[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def matrix_shapes(shape: TinyShape) -> dict[str, tuple[int, int]]:
    """Rows and columns of the file's matrices."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    names = {"token_embd.weight": (shape.vocab_size, hidden)}
    for layer in range(shape.num_hidden_layers):
        names |= {
            f"blk.{layer}.attn_q.weight": (queries, hidden),
            f"blk.{layer}.attn_k.weight": (keys, hidden),
            f"blk.{layer}.attn_v.weight": (keys, hidden),
            f"blk.{layer}.attn_output.weight": (hidden, queries),
            f"blk.{layer}.ffn_gate.weight": (inner, hidden),
            f"blk.{layer}.ffn_up.weight": (inner, hidden),
            f"blk.{layer}.ffn_down.weight": (hidden, inner),
        }
    return names if shape.tied else {**names, "output.weight": (shape.vocab_size, hidden)}


def norm_names(shape: TinyShape) -> list[str]:
    layers = range(shape.num_hidden_layers)
    return [f"blk.{layer}.{norm}.weight" for layer in layers for norm in ("attn_norm", "ffn_norm")] + [
        "output_norm.weight"
    ]


def _random(seed: int, name: str, rows: int, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    random = np.random.default_rng([seed, *name.encode()])
    return random.standard_normal((rows, columns), np.float32)


def _write_matrix(writer: gguf.GGUFWriter, name: str, weight: np.ndarray, quant: str) -> None:
    kind = gguf.GGMLQuantizationType[quant]
    if quant in ("F32", "F16"):
        writer.add_tensor(name, weight.astype(np.float32 if quant == "F32" else np.float16))
    elif quant in ("BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        writer.add_tensor(name, quantize(weight, kind), raw_dtype=kind)
    else:  # the gguf package only reads them
        writer.add_tensor(name, random_blocks(quant, len(weight), weight.shape[1], seed=weight.size), raw_dtype=kind)


def _write_metadata(writer: gguf.GGUFWriter, shape: TinyShape) -> None:
    writer.add_name("tiny")
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)


def write_vocabulary(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    tokens = [*SPECIAL_TOKENS, *byte_tokens(), *("".join(merge) for merge in MERGES)]
    kinds = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3)
    unused = vocab_size - len(tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens + [f"<|unused_{index}|>" for index in range(unused)])
    writer.add_token_types(kinds + [gguf.TokenType.UNUSED] * unused)
    writer.add_token_merges([" ".join(merge) for merge in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
