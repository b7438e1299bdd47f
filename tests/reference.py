"""The same model in Hugging Face transformers: the reference of whole-model results. Needs the ``reference`` extra.

It shares nothing with kvscape but the file: weights are dequantized by the ``gguf`` package, Q and K rows put back into
Hugging Face's order here.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf.quants import dequantize

_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_OTHERS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def load_reference(path: Path) -> Any:
    """Return a ``LlamaForCausalLM`` in f32 with the dequantized weights of a GGUF file."""
    reader = gguf.GGUFReader(path)
    config = _config(reader)
    state = {_name(tensor.name): torch.from_numpy(_values(tensor, config)) for tensor in reader.tensors}
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    model = transformers.LlamaForCausalLM(config).to(torch.float32)
    model.load_state_dict(state, strict=True)
    return model.eval()


def reference_logits(model: Any, token_ids: Sequence[int]) -> np.ndarray:
    """Logits after each token, f32 [n, vocab], without a cache."""
    with torch.no_grad():
        result: np.ndarray = model(torch.tensor([list(token_ids)])).logits[0].numpy()
    return result


def reference_logprobs(model: Any, token_ids: Sequence[int]) -> np.ndarray:
    """Log-probability of each token after the first, f64 [n - 1]."""
    with torch.no_grad():
        logits = model(torch.tensor([list(token_ids)])).logits[0, :-1].double()
    chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(list(token_ids[1:]))[:, None])
    result: np.ndarray = chosen[:, 0].numpy()
    return result


def reference_windows(model: Any, token_ids: Sequence[int], context: int) -> float:
    """Perplexity as GPTQ's evaluation has it: the mean of the losses of windows side by side."""
    windows = [token_ids[start : start + context] for start in range(0, len(token_ids) - context + 1, context)]
    losses = [float(_loss(model, window, 1)) for window in windows]
    return math.exp(sum(losses) / len(losses))


def reference_stride(model: Any, token_ids: Sequence[int], context: int, stride: int) -> float:
    """Perplexity by the arithmetic of Hugging Face's guide on fixed-length models."""
    total, count, previous_end = 0.0, 0, 0
    for begin in range(0, len(token_ids), stride):
        end = min(begin + context, len(token_ids))
        targets = end - previous_end
        # one token less, since the loss shifts the labels by one: of the first window it is true
        total += float(_loss(model, token_ids[begin:end], end - begin - targets)) * (targets - 1)
        count += targets - 1
        previous_end = end
        if end == len(token_ids):
            break
    return math.exp(total / count)


def _loss(model: Any, token_ids: Sequence[int], first_target: int) -> Any:
    """The loss that transformers computes itself; -100 is a label that it ignores."""
    inputs = torch.tensor([list(token_ids)])
    labels = inputs.clone()
    labels[:, :first_target] = -100
    with torch.no_grad():
        return model(inputs, labels=labels).loss


def reference_greedy(model: Any, token_ids: Sequence[int], max_tokens: int) -> list[list[tuple[int, float]]]:
    """The two likeliest tokens and their logits at each of ``max_tokens`` steps; the likeliest goes on.

    Without a cache: transformers renames its cache's argument between minor versions.
    """
    steps: list[list[tuple[int, float]]] = []
    inputs = list(token_ids)
    for _ in range(max_tokens):
        last = reference_logits(model, inputs)[-1]
        best = np.argsort(-last, kind="stable")[:2]
        steps.append([(int(token), float(last[token])) for token in best])
        inputs.append(steps[-1][0][0])
    return steps


def _config(reader: gguf.GGUFReader) -> Any:
    fields = {key.removeprefix("llama."): field.contents() for key, field in reader.fields.items() if "llama." in key}
    heads, hidden = fields["attention.head_count"], fields["embedding_length"]
    return transformers.LlamaConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data),
        hidden_size=hidden,
        intermediate_size=fields["feed_forward_length"],
        num_hidden_layers=fields["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=fields["attention.head_count_kv"],
        head_dim=hidden // heads,
        max_position_embeddings=fields["context_length"],
        rms_norm_eps=fields["attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": fields["rope.freq_base"]},
        tie_word_embeddings="output.weight" not in {tensor.name for tensor in reader.tensors},
        attention_bias=False,
        attn_implementation="eager",
    )


def _name(name: str) -> str:
    kind, *rest = name.removesuffix(".weight").split(".")
    return f"{_OTHERS[kind]}.weight" if not rest else f"model.layers.{rest[0]}.{_LAYER[rest[1]]}.weight"


def _values(tensor: gguf.ReaderTensor, config: Any) -> np.ndarray:
    values = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(tensor.name.split(".")[-2])
    if heads is None:
        return values
    # GGUF keeps the two halves of a rotated pair side by side, Hugging Face half a head apart.
    pairs = values.reshape(heads, -1, 2, values.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)
